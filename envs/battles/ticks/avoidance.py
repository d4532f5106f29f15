"""Collision avoidance, the second part of a tick: ORCA (van den Berg et al., 2011).

Each unit gets the velocity closest to its preferred one that avoids neighbours and walls. Few units are close to
anything, so those are gathered from all environments and solved in blocks: half-planes and the first two linear
programs for all of them, the third program for units whose half-planes are infeasible. The number of blocks depends on
the work; the result of a unit does not depend on the units in its block.

Axes in comments: N units; W environments; C units of a block; K neighbours; M edges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import NEIGHBOURS, Facts, Rules, largest_radius
from gpgrad.envs.battles.state import Field
from gpgrad.envs.battles.ticks import programs
from gpgrad.envs.battles.ticks.exact import farther
from gpgrad.envs.battles.ticks.lines import Body, edges_of, neighbour_lines, wall_lines
from gpgrad.envs.battles.ticks.programs import Lines, Vectors
from gpgrad.envs.battles.ticks.targets import Wishes

LEAST_BLOCK = 64  # minimum number of units of a block
SLACK = np.float32(1 + 1e-5)  # so that rounding does not exclude exact neighbours
# Number of blocks that hold all units, for the first two programs and for the third.
BLOCKS, RARE_BLOCKS = 8, 64


class _Scene(NamedTuple):
    """All units, [N, W]. wish: preferred velocity. reach: distance within which others are avoided."""

    x: jax.Array
    y: jax.Array
    vx: jax.Array
    vy: jax.Array
    wish_x: jax.Array
    wish_y: jax.Array
    radius: jax.Array
    reach: jax.Array
    speed: jax.Array
    flies: jax.Array
    alive: jax.Array
    moves: jax.Array


def avoid(rules: Rules, facts: Facts, field: Field, wishes: Wishes) -> tuple[jax.Array, jax.Array]:
    """Velocities after avoidance, x and y, each [N, W]."""
    moves = (wishes.vx != 0) | (wishes.vy != 0)
    wide = lambda fact: jnp.broadcast_to(fact, field.x.shape)  # noqa: E731
    scene = _Scene(
        field.x,
        field.y,
        field.vx,
        field.vy,
        wishes.vx,
        wishes.vy,
        wide(facts.radius),
        wide(facts.radius + largest_radius(facts)),
        wide(facts.speed),
        wide(facts.flies),
        field.alive,
        moves,
    )
    meets = scene.moves & (_has_neighbour(rules, scene) | _has_wall(rules, scene))

    def first(units: jax.Array, real: jax.Array) -> tuple[jax.Array, ...]:
        lines, speed, wish = _problem(rules, scene, units, real)
        v, failed = programs.closest(lines, wish, speed)
        return v.x, v.y, failed

    n_lines = _hard(rules).size
    v_x, v_y, failed = _in_blocks(
        meets, first, (wishes.vx, wishes.vy, jnp.full(meets.shape, n_lines, jnp.int32)), BLOCKS
    )

    def second(units: jax.Array, real: jax.Array) -> tuple[jax.Array, ...]:
        lines, speed, _ = _problem(rules, scene, units, real)
        at = units // meets.shape[1], units % meets.shape[1]
        start = Vectors(v_x[at], v_y[at])
        v = programs.least_violation(lines, _hard(rules), failed[at], start, speed)
        return v.x, v.y

    return _in_blocks(failed < n_lines, second, (v_x, v_y), RARE_BLOCKS)  # type: ignore[return-value]


def _hard(rules: Rules) -> np.ndarray:
    """Which lines are walls (hard constraints): the first ones."""
    slots = min(NEIGHBOURS, rules.n_units - 1)
    return np.arange(rules.walls.near.shape[-1] + slots) < rules.walls.near.shape[-1]


def _has_neighbour(rules: Rules, scene: _Scene) -> jax.Array:
    """Whether a unit must avoid a neighbour, bool [N, W]."""
    found = jnp.zeros(scene.x.shape, bool)
    for j in range(rules.n_units):  # a loop over planes [N, W] fuses; pairs [N, N, W] would be materialised
        dx, dy = scene.x[j] - scene.x, scene.y[j] - scene.y
        close = (
            (dx * dx + dy * dy <= scene.reach * scene.reach * SLACK) & scene.alive[j] & (scene.flies[j] == scene.flies)
        )
        found = found | (close & (np.arange(rules.n_units) != j)[:, None])
    return found


def _has_wall(rules: Rules, scene: _Scene) -> jax.Array:
    """Whether a wall is in reach, bool [N, W]."""
    flat = lambda z: z.reshape(-1)  # noqa: E731
    edges = edges_of(rules.walls, flat(scene.x), flat(scene.y), flat(scene.radius + scene.speed))
    return jnp.any(edges.in_reach, axis=0).reshape(scene.x.shape) & ~scene.flies


def _problem(rules: Rules, scene: _Scene, units: jax.Array, real: jax.Array) -> tuple[Lines, jax.Array, Vectors]:
    """Half-planes, speeds and preferred velocities of units [C], indices into flattened [N, W]; none if not `real`."""
    n, w = units // scene.x.shape[1], units % scene.x.shape[1]
    mine = _Scene(*(plane[n, w] for plane in scene))
    own = Body(mine.x, mine.y, mine.vx, mine.vy, mine.radius, mine.moves)
    edges = edges_of(rules.walls, mine.x, mine.y, mine.radius + mine.speed)
    edges = edges._replace(in_reach=edges.in_reach & ~mine.flies)
    walls = wall_lines(edges, own, rules.switches.wall_slip)

    all_x, all_y = scene.x[:, w], scene.y[:, w]  # [N, C]
    dx, dy = all_x - mine.x, all_y - mine.y
    numbers = np.arange(rules.n_units, dtype=np.int32)[:, None]
    within = ~farther(dx, dy, mine.reach)
    near = within & scene.alive[:, w] & (scene.flies[:, w] == mine.flies)
    near = near & (numbers != n)
    slots = np.arange(min(NEIGHBOURS, rules.n_units - 1), dtype=np.int32)[:, None]
    rank = jnp.cumsum(near, axis=0, dtype=jnp.int32) - 1  # [N, C]
    taken = near & (rank == slots[:, None])  # [K, N, C]
    other = jnp.sum(jnp.where(taken, numbers, 0), axis=1)  # [K, C]
    them = Body(*(plane[other, w] for plane in (scene.x, scene.y, scene.vx, scene.vy, scene.radius, scene.moves)))
    beside = neighbour_lines(own, them, jnp.any(taken, axis=1))
    lines = Lines(*(jnp.concatenate(pair) for pair in zip(walls, beside, strict=True)))
    lines = lines._replace(present=lines.present & real)
    return lines, mine.speed, Vectors(mine.wish_x, mine.wish_y)


def _in_blocks(
    chosen: jax.Array,
    solve: Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]],
    start: tuple[jax.Array, ...],
    blocks: int,
) -> tuple[jax.Array, ...]:
    """Arrays `start` [N, W], with the results of `solve` for the chosen units, computed in blocks.

    solve(units [C], real bool [C]) -> arrays [C]; entries that are not `real` are padding.
    """
    flat = chosen.reshape(-1)
    block = min(flat.size, max(LEAST_BLOCK, flat.size // blocks))
    place = jnp.cumsum(flat, dtype=jnp.int32)  # rank of each chosen unit, from 1
    total = place[-1]

    def more(carry: tuple[jax.Array, tuple[jax.Array, ...]]) -> jax.Array:
        return carry[0] < total

    def body(carry: tuple[jax.Array, tuple[jax.Array, ...]]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        done, values = carry
        wanted = done + 1 + jnp.arange(block, dtype=jnp.int32)
        units = jnp.searchsorted(place, wanted, method="scan_unrolled")
        found = solve(jnp.minimum(units, flat.size - 1).astype(jnp.int32), wanted <= total)
        at = place - 1 - done
        here = flat & (at >= 0) & (at < block)
        at = jnp.clip(at, 0, block - 1)
        return done + block, tuple(
            jnp.where(here, new[at], old.reshape(-1)).reshape(old.shape) for new, old in zip(found, values, strict=True)
        )

    return jax.lax.while_loop(more, body, (jnp.int32(0), start))[1]
