"""The linear programs of ORCA against exhaustive search, and the solution in blocks."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.battles.ticks.avoidance import _in_blocks
from gpgrad.envs.battles.ticks.exact import farther
from gpgrad.envs.battles.ticks.programs import Lines, Vectors, closest, least_violation, violation

LINES, UNITS = 5, 300
ANGLES, RADII = np.linspace(0, 2 * np.pi, 241), np.linspace(0, 1, 61)
DISC = np.stack([np.outer(RADII, np.cos(ANGLES)).ravel(), np.outer(RADII, np.sin(ANGLES)).ravel()], 1)  # [D, 2]
STEP = 0.03 * 3.0  # how far apart the searched velocities are


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, (LINES, UNITS))
    point = rng.normal(0, 1.5, (2, LINES, UNITS))
    lines = Lines(*point, np.cos(angle), np.sin(angle), rng.random((LINES, UNITS)) < 0.7)
    lines = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32 if leaf.dtype == float else bool), lines)
    wish = Vectors(*(jnp.asarray(rng.normal(0, 2, UNITS), jnp.float32) for _ in range(2)))
    speed = jnp.full(UNITS, 3.0)
    hard = np.arange(LINES) < 1

    @jax.jit
    def solve(lines, wish):
        best, failed = closest(lines, wish, speed)
        return best, failed, least_violation(lines, hard, failed, best, speed)

    best, failed, least = jax.device_get(solve(lines, wish))
    over = np.asarray(violation(lines, Vectors(3 * DISC[:, 0, None, None], 3 * DISC[:, 1, None, None])))  # [D, L, C]
    over = np.where(np.asarray(lines.present), over, -np.inf)
    return jax.device_get((lines, wish)), best, failed, least, over


def test_the_closest_velocity_that_holds_all_lines(solved):
    (lines, wish), best, failed, _, over = solved
    held = failed == LINES
    assert 0.3 < held.mean() < 0.95
    mine = np.where(lines.present, violation(lines, best), -np.inf).max(0)
    assert (mine[held] < 1e-4).all()
    assert (np.hypot(*best) < 3 + 1e-4).all()
    away = np.hypot(best.x - wish.x, best.y - wish.y)
    allowed = over.max(1) <= 0  # [D, C]
    found = np.hypot(3 * DISC[:, :1] - wish.x, 3 * DISC[:, 1:] - wish.y)
    nearest = np.where(allowed, found, np.inf).min(0)
    assert (away[held] <= nearest[held] + 1e-4).all()
    room = held & (allowed.mean(0) > 0.05)
    assert (nearest[room] - away[room] < 4 * STEP).all()
    assert not (allowed.any(0) & ~held).any()


def test_the_least_violation_where_lines_cannot_all_be_held(solved):
    (lines, _), _, failed, least, over = solved
    unheld = failed < LINES
    soft = np.where(lines.present, violation(lines, least), -np.inf)
    hard_held = (over[:, 0] <= 0).any(0)  # the wall alone can be held somewhere
    chosen = unheld & hard_held & (failed > 0)
    assert chosen.sum() > 20
    assert (soft[0][chosen] < 1e-3).all()
    mine = soft[1:][:, chosen].max(0)
    searched = np.where(over[:, :1] <= 0, over[:, 1:], np.inf).max(1)[:, chosen].min(0)
    assert (mine <= searched + 1e-3).all()


def test_units_that_hold_their_lines_are_left_alone(solved):
    _, best, failed, least, _ = solved
    held = failed == LINES
    np.testing.assert_array_equal(least.x[held], best.x[held])


def test_contact_is_decided_exactly():
    rng = np.random.default_rng(1)
    reach = np.float32(0.75)
    angle = rng.uniform(0, 2 * np.pi, 2000)
    ulps = rng.integers(-2, 3, 2000) * np.float32(6e-8)
    dx, dy = (np.float32(reach * (1 + ulps) * f(angle)) for f in (np.cos, np.sin))
    exact = [
        Fraction(float(a)) ** 2 + Fraction(float(b)) ** 2 > Fraction(float(reach)) ** 2
        for a, b in zip(dx, dy, strict=True)
    ]
    np.testing.assert_array_equal(jax.jit(farther)(dx, dy, jnp.full(2000, reach)), exact)
    rounded = dx * dx + dy * dy > reach * reach
    assert (rounded != exact).any()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 1.0])
def test_blocks_take_everybody_once(share):
    chosen = jnp.asarray(np.random.default_rng(2).random((5, 70)) < share)
    start = jnp.full((5, 70), -1.0)

    def solve(units, real):
        return (jnp.where(real, units, -99).astype(jnp.float32),)

    (found,) = _in_blocks(chosen, solve, (start,), 8)
    np.testing.assert_array_equal(found, np.where(chosen, np.arange(350).reshape(5, 70), -1))
