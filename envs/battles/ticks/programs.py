"""Linear programs in two dimensions: the velocity closest to a preferred one under half-planes, for many units.

The incremental programs of ORCA (van den Berg et al., 2011, "Reciprocal n-body collision avoidance", Section 5) for
arrays: all units have the same number of lines, of which some may be absent.

Axes in comments: L lines; C units.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PARALLEL = np.float32(1e-5)  # cross product below which directions count as parallel


class Lines(NamedTuple):
    """Half-planes: velocities to the left of a line through (px, py) in unit direction (ex, ey) are allowed.

    float32 [L, C]; present: bool [L, C].
    """

    px: jax.Array
    py: jax.Array
    ex: jax.Array
    ey: jax.Array
    present: jax.Array


class Vectors(NamedTuple):
    """Vectors [C]."""

    x: jax.Array
    y: jax.Array


def violation(lines: Lines, v: Vectors) -> jax.Array:
    """Distance of a velocity to the forbidden side of each line, negative if allowed; [L, C] or [C]."""
    return lines.ex * (lines.py - v.y) - lines.ey * (lines.px - v.x)


def closest(lines: Lines, wish: Vectors, speed: jax.Array) -> tuple[Vectors, jax.Array]:
    """The velocity closest to `wish` with at most `speed` [C], and the index of the first infeasible line, int32 [C].

    The index is L if all lines are feasible; otherwise the velocity is optimal for the lines before that one.
    """
    length = jnp.sqrt(wish.x * wish.x + wish.y * wish.y)
    cut = jnp.where(length > speed, speed / jnp.maximum(length, speed), 1.0)
    return _incremental(lines, wish, Vectors(wish.x * cut, wish.y * cut), speed, _nearest)


def least_violation(lines: Lines, hard: np.ndarray, failed: jax.Array, start: Vectors, speed: jax.Array) -> Vectors:
    """For infeasible lines: the velocity that minimises the largest violation. Lines in `hard` [L] stay constraints.

    failed: the first infeasible line, int32 [C]. start: the optimal velocity for the lines before it.
    """
    n_lines = lines.px.shape[0]
    numbers = np.arange(n_lines)[:, None]

    def add(i: jax.Array, carry: tuple[Vectors, jax.Array]) -> tuple[Vectors, jax.Array]:
        best, distance = carry
        line = _line(lines, i)
        over = line.present & (i >= failed) & (violation(line, best) > distance)

        def improve(carry: tuple[Vectors, jax.Array]) -> tuple[Vectors, jax.Array]:
            best, distance = carry
            others = _bisectors(lines, line, hard)
            others = others._replace(present=others.present & (hard[:, None] | (numbers < i)) & over)
            inward = Vectors(-line.ey, line.ex)
            found, held = _incremental(others, inward, Vectors(inward.x * speed, inward.y * speed), speed, _farthest)
            taken = over & (held == n_lines)
            best = Vectors(*(jnp.where(taken, new, old) for new, old in zip(found, best, strict=True)))
            return best, jnp.where(over, violation(line, best), distance)

        return jax.lax.cond(jnp.any(over), improve, lambda carry: carry, carry)

    return jax.lax.fori_loop(0, _used(lines), add, (start, jnp.zeros_like(speed)))[0]


def _used(lines: Lines) -> jax.Array:
    """One more than the index of the last line that any unit has."""
    numbers = np.arange(1, lines.px.shape[0] + 1, dtype=np.int32)
    return jnp.max(jnp.where(jnp.any(lines.present, axis=1), numbers, 0), initial=0)


def _line(lines: Lines, i: jax.Array) -> Lines:
    """One line of each unit, [C]."""
    return Lines(*(jax.lax.dynamic_index_in_dim(column, i, keepdims=False) for column in lines))


def _nearest(line: Lines, wish: Vectors, low: jax.Array, high: jax.Array) -> jax.Array:
    """The position on a line, between low and high, closest to the wish."""
    return jnp.clip(line.ex * (wish.x - line.px) + line.ey * (wish.y - line.py), low, high)


def _farthest(line: Lines, direction: Vectors, low: jax.Array, high: jax.Array) -> jax.Array:
    """The position on a line, between low and high, farthest in a direction."""
    return jnp.where(direction.x * line.ex + direction.y * line.ey > 0, high, low)


def _incremental(lines: Lines, wish: Vectors, start: Vectors, speed: jax.Array, best) -> tuple[Vectors, jax.Array]:
    """Add lines one by one: if the result violates a line, move to its best point under the earlier lines."""
    n_lines = lines.px.shape[0]
    numbers = np.arange(n_lines)[:, None]

    def hold(i: jax.Array, carry: tuple[Vectors, jax.Array]) -> tuple[Vectors, jax.Array]:
        line = _line(lines, i)
        v, failed = carry
        broken = line.present & (failed == n_lines) & (violation(line, v) > 0)

        def move(carry: tuple[Vectors, jax.Array]) -> tuple[Vectors, jax.Array]:
            v, failed = carry
            low, high = _segment(lines, numbers < i, line, speed)
            at = best(line, wish, low, high)
            possible = low <= high
            moved = broken & possible
            x, y = line.px + at * line.ex, line.py + at * line.ey
            v = Vectors(jnp.where(moved, x, v.x), jnp.where(moved, y, v.y))
            return v, jnp.where(broken & ~possible, i, failed)

        return jax.lax.cond(jnp.any(broken), move, lambda carry: carry, carry)

    nothing_failed = jnp.full(speed.shape, n_lines, jnp.int32)
    return jax.lax.fori_loop(0, _used(lines), hold, (start, nothing_failed))


def _segment(
    lines: Lines, earlier: jax.Array | np.ndarray, line: Lines, speed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The segment of a line [C] inside the disc of `speed` and the earlier lines; empty if low > high."""
    along = line.px * line.ex + line.py * line.ey
    inside = along * along + speed * speed - line.px * line.px - line.py * line.py
    half = jnp.sqrt(jnp.maximum(inside, 0.0))
    across = line.ex * lines.ey - line.ey * lines.ex  # [L, C]
    beyond = lines.ex * (line.py - lines.py) - lines.ey * (line.px - lines.px)
    parallel = jnp.abs(across) <= PARALLEL
    at = beyond / jnp.where(parallel, 1.0, across)
    bounds = earlier & lines.present & ~parallel
    high = jnp.min(jnp.where(bounds & (across >= 0), at, jnp.inf), axis=0)
    low = jnp.max(jnp.where(bounds & (across < 0), at, -jnp.inf), axis=0)
    impossible = (inside < 0) | jnp.any(earlier & lines.present & parallel & (beyond < 0), axis=0)
    low, high = jnp.maximum(low, -along - half), jnp.minimum(high, half - along)
    return jnp.where(impossible, 1.0, low), jnp.where(impossible, 0.0, high)


def _bisectors(lines: Lines, line: Lines, hard: np.ndarray) -> Lines:
    """Lines [L, C] of equal violation of each soft line and `line` [C]; hard lines unchanged."""
    across = line.ex * lines.ey - line.ey * lines.ex
    parallel = jnp.abs(across) <= PARALLEL
    same = parallel & (line.ex * lines.ex + line.ey * lines.ey > 0)
    at = (lines.ex * (line.py - lines.py) - lines.ey * (line.px - lines.px)) / jnp.where(parallel, 1.0, across)
    px = jnp.where(parallel, 0.5 * (line.px + lines.px), line.px + at * line.ex)
    py = jnp.where(parallel, 0.5 * (line.py + lines.py), line.py + at * line.ey)
    ex, ey = lines.ex - line.ex, lines.ey - line.ey
    length = jnp.sqrt(ex * ex + ey * ey)
    length = jnp.where(length > 0, length, 1.0)
    fixed = hard[:, None]
    return Lines(
        px=jnp.where(fixed, lines.px, px),
        py=jnp.where(fixed, lines.py, py),
        ex=jnp.where(fixed, lines.ex, ex / length),
        ey=jnp.where(fixed, lines.ey, ey / length),
        present=lines.present & (fixed | ~same),
    )
