"""Half-planes of velocities that avoid collisions with neighbours and walls within one second.

Neighbours: ORCA, optimal reciprocal collision avoidance (van den Berg et al., 2011). Walls: the construction of RVO2,
its authors' library (Apache-2.0, Copyright 2008 University of North Carolina at Chapel Hill), rewritten for arrays.

Axes in comments: K slots for neighbours; M edges near a cell; C units.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.scenarios.maps import BOARD
from gpgrad.envs.battles.scenarios.terrain import MARGIN, Walls
from gpgrad.envs.battles.scenarios.units import TICKS_PER_SECOND
from gpgrad.envs.battles.ticks.exact import farther
from gpgrad.envs.battles.ticks.programs import Lines

COVERED = np.float32(-1e-5)  # tolerance for an edge behind an earlier line


class Body(NamedTuple):
    """Units as others avoid them, each [..., C]. yields: whether a unit moves and so takes half of the avoidance."""

    x: jax.Array
    y: jax.Array
    vx: jax.Array
    vy: jax.Array
    radius: jax.Array
    yields: jax.Array


def _unit(x: jax.Array, y: jax.Array, fallback: tuple[float, float] = (1.0, 0.0)) -> tuple[jax.Array, ...]:
    """Direction and length of vectors; `fallback` is the direction of zero vectors."""
    length = jnp.sqrt(x * x + y * y)
    some = length > 0
    divisor = jnp.where(some, length, 1.0)
    return jnp.where(some, x / divisor, fallback[0]), jnp.where(some, y / divisor, fallback[1]), length


def neighbour_lines(own: Body, other: Body, present: jax.Array) -> Lines:
    """Half-planes against neighbours: own [C], other and present [K, C]."""
    qx, qy = other.x - own.x, other.y - own.y
    wx0, wy0 = own.vx - other.vx, own.vy - other.vy
    reach = own.radius + other.radius
    far2, reach2 = qx * qx + qy * qy, reach * reach
    separated = farther(qx, qy, reach)

    # The disc that truncates the velocity obstacle: after one second if the units are apart, one tick if they overlap.
    rate = jnp.where(separated, 1.0, np.float32(TICKS_PER_SECOND))
    wx, wy = wx0 - rate * qx, wy0 - rate * qy
    # For equal positions and velocities `_unit` gives an arbitrary but valid direction.
    nx, ny, w = _unit(wx, wy)
    dot = wx * qx + wy * qy
    on_disc = ~separated | ((dot < 0) & (dot * dot > reach2 * w * w))
    ux, uy = (rate * reach - w) * nx, (rate * reach - w) * ny

    leg = jnp.sqrt(jnp.maximum(far2 - reach2, 0.0))
    left = qx * wy - qy * wx > 0
    scale = jnp.where(separated, far2, 1.0)
    lx = jnp.where(left, qx * leg - qy * reach, -qx * leg - qy * reach) / scale
    ly = jnp.where(left, qx * reach + qy * leg, qx * reach - qy * leg) / scale
    along = wx0 * lx + wy0 * ly

    share = jnp.where(other.yields, np.float32(0.5), np.float32(1.0))
    ux = jnp.where(on_disc, ux, along * lx - wx0)
    uy = jnp.where(on_disc, uy, along * ly - wy0)
    return Lines(
        px=own.vx + share * ux,
        py=own.vy + share * uy,
        ex=jnp.where(on_disc, ny, lx),
        ey=jnp.where(on_disc, -nx, ly),
        present=present,
    )


class _Edges(NamedTuple):
    """Edges near units, [M, C]: ends relative to the unit, unit direction, whether in reach."""

    ax: jax.Array
    ay: jax.Array
    bx: jax.Array
    by: jax.Array
    dx: jax.Array
    dy: jax.Array
    in_reach: jax.Array


def near_edges(walls: Walls, x: jax.Array, y: jax.Array) -> jax.Array:
    """Indices of the edges near positions [C], int32 [M, C]; -1 for none."""
    row, column = (jnp.clip(jnp.floor(z).astype(jnp.int32) + MARGIN, 0, BOARD + 2 * MARGIN - 1) for z in (y, x))
    side, most = walls.near.shape[1], walls.near.shape[2]
    by_cell = np.ascontiguousarray(walls.near.reshape(side * side, most).T)  # [M, cells]
    return jnp.take(jnp.asarray(by_cell), row * side + column, axis=1).astype(jnp.int32)


def edges_of(walls: Walls, x: jax.Array, y: jax.Array, reach: jax.Array) -> _Edges:
    """The edges within `reach` [C] of units at positions [C]."""
    number = near_edges(walls, x, y)
    if not number.size:
        none = jnp.zeros(number.shape)
        return _Edges(none, none, none, none, none, none, none > 0)
    direction = np.sign(walls.end - walls.start)
    columns = np.concatenate([walls.start, walls.end, direction], -1)  # [W, 6]
    ax, ay, bx, by, dx, dy = (jnp.asarray(column)[jnp.maximum(number, 0)] for column in columns.T)
    ax, bx, ay, by = ax - x, bx - x, ay - y, by - y
    sees = dx * ay - dy * ax > 0  # the unit is on the right
    beyond = jnp.maximum(jnp.maximum(ax * dx + ay * dy, -(bx * dx + by * dy)), 0.0)
    beside = dx * ay - dy * ax
    close = beyond * beyond + beside * beside <= reach * reach
    return _Edges(ax, ay, bx, by, dx, dy, (number >= 0) & sees & close)


def wall_lines(edges: _Edges, own: Body, slip: bool) -> Lines:
    """Half-planes against edges: own [C] to lines [M, C]. All corners of walls are convex.

    slip: whether the line's point is computed as in SMAClite, which is correct only for vertical lines.
    """
    ax, ay, bx, by, dx, dy, in_reach = edges
    r = own.radius
    a2, b2, r2 = ax * ax + ay * ay, bx * bx + by * by, r * r
    length = (bx - ax) * dx + (by - ay) * dy
    s = -(ax * dx + ay * dy) / length  # position of the unit along the edge, as a fraction of its length
    beside = dx * ay - dy * ax
    beside2 = beside * beside
    before, after, between = s < 0, s > 1, (s >= 0) & (s <= 1)

    touches_a, touches_b = before & (a2 <= r2), after & (b2 <= r2)
    touches = between & (beside2 <= r2)
    # The next edge of the rectangle turns left, to (-dy, dx). It handles corner b if it faces the unit.
    left_to_next = touches_b & (bx * dx + by * dy < 0)

    # Seen end-on: the obstacle is a single corner.
    only_a, only_b = before & (beside2 <= r2), after & (beside2 <= r2)
    end_on = only_a | only_b
    lx, ly = jnp.where(only_b, bx, ax), jnp.where(only_b, by, ay)  # the left corner
    rx, ry = jnp.where(only_a, ax, bx), jnp.where(only_a, ay, by)
    l2, r_2 = jnp.where(only_b, b2, a2), jnp.where(only_a, a2, b2)
    left_leg, right_leg = jnp.sqrt(jnp.maximum(l2 - r2, 0.0)), jnp.sqrt(jnp.maximum(r_2 - r2, 0.0))
    left_x, left_y = (lx * left_leg - ly * r) / l2, (lx * r + ly * left_leg) / l2
    right_x, right_y = (rx * right_leg + ry * r) / r_2, (-rx * r + ry * right_leg) / r_2

    # A leg never points into the neighbouring edge: directions of the edges before a and behind b, reversed for a.
    # Seen end-on from beyond b, SMAClite keeps the edge before a. Seen from before a, the edge behind a is this one.
    back_x, back_y = -dy, dx  # minus the direction (dy, -dx) of the edge before
    next_x, next_y = jnp.where(only_a, dx, -dy), jnp.where(only_a, dy, dx)
    left_foreign = left_x * back_y - left_y * back_x >= 0
    right_foreign = right_x * next_y - right_y * next_x <= 0
    left_x, left_y = jnp.where(left_foreign, back_x, left_x), jnp.where(left_foreign, back_y, left_y)
    right_x, right_y = jnp.where(right_foreign, next_x, right_x), jnp.where(right_foreign, next_y, right_y)

    # The nearest part of the velocity obstacle: a disc, the edge, or a leg.
    fx, fy = own.vx - lx, own.vy - ly
    gx, gy = own.vx - rx, own.vy - ry
    t = jnp.where(end_on, 0.5, (fx * dx + fy * dy) / length)
    on_left, on_right = fx * left_x + fy * left_y, gx * right_x + gy * right_y
    disc_left = ((t < 0) & (on_left < 0)) | (end_on & (on_left < 0) & (on_right < 0))
    disc_right = ~disc_left & (t > 1) & (on_right < 0)
    fnx, fny, _ = _unit(fx, fy)
    gnx, gny, _ = _unit(gx, gy)

    def off(x: jax.Array, y: jax.Array, ex: jax.Array, ey: jax.Array) -> jax.Array:
        return (x * ey - y * ex) ** 2

    to_edge = jnp.where((t < 0) | (t > 1) | end_on, jnp.inf, off(fx, fy, dx, dy))
    to_left = jnp.where(on_left < 0, jnp.inf, off(fx, fy, left_x, left_y))
    to_right = jnp.where(on_right < 0, jnp.inf, off(gx, gy, right_x, right_y))
    on_edge = (to_edge <= to_left) & (to_edge <= to_right)
    use_left = ~on_edge & (to_left <= to_right)
    use_right = ~on_edge & ~use_left

    ex = jnp.where(on_edge, -dx, jnp.where(use_left, left_x, -right_x))
    ey = jnp.where(on_edge, -dy, jnp.where(use_left, left_y, -right_y))
    corner_x, corner_y = jnp.where(use_right, rx, lx), jnp.where(use_right, ry, ly)
    px, py = corner_x - r * ey, corner_y + (-r * ey if slip else r * ex)
    disc = disc_left | disc_right
    nx, ny = jnp.where(disc_left, fnx, gnx), jnp.where(disc_left, fny, gny)
    ex, ey = jnp.where(disc, ny, ex), jnp.where(disc, -nx, ey)
    px = jnp.where(disc, jnp.where(disc_left, lx, rx) + r * nx, px)
    py = jnp.where(disc, jnp.where(disc_left, ly, ry) + r * ny, py)
    foreign = ~disc & ((use_left & left_foreign) | (use_right & right_foreign))

    # Touching the wall: the line passes through zero, away from the corner or along the edge.
    anx, any_, _ = _unit(-ay, ax)
    bnx, bny, _ = _unit(-by, bx)
    touching = touches_a | touches_b | touches
    ex = jnp.where(touches_a, anx, jnp.where(touches_b, bnx, jnp.where(touches, -dx, ex)))
    ey = jnp.where(touches_a, any_, jnp.where(touches_b, bny, jnp.where(touches, -dy, ey)))
    px, py = jnp.where(touching, 0.0, px), jnp.where(touching, 0.0, py)
    present = in_reach & ~left_to_next & (touching | ~foreign)
    return uncovered(edges, Lines(px, py, ex, ey, present), r)


def uncovered(edges: _Edges, lines: Lines, radius: jax.Array) -> Lines:
    """Lines [M, C] without those of edges that are entirely behind an earlier line."""
    most = lines.px.shape[0]
    if not most:
        return lines
    numbers = np.arange(most)[:, None]

    def behind(x: jax.Array, y: jax.Array) -> jax.Array:  # ends [M, C] behind lines: [lines, ends, C]
        cross = (x - lines.px[:, None]) * lines.ey[:, None] - (y - lines.py[:, None]) * lines.ex[:, None]
        return cross - radius >= COVERED

    wholly = behind(edges.ax, edges.ay) & behind(edges.bx, edges.by)

    def keep_if_new(m: jax.Array, kept: jax.Array) -> jax.Array:
        over = jax.lax.dynamic_index_in_dim(wholly, m, axis=1, keepdims=False)
        hidden = jnp.any(kept & over & (numbers < m), axis=0)
        return kept & ~(hidden & (numbers == m))

    return lines._replace(present=jax.lax.fori_loop(0, most, keep_if_new, lines.present))
