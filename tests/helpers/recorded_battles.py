"""Recorded battles of SMAClite, padded to one shape so that many of them run as one program.

Every recording of a group is padded with dead units to the same number of ours and of enemies; its types are given per
tick, as drawn battles have them. Axes in comments: K ticks of all recordings of a group; N units, padded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import Rules, Switches
from gpgrad.envs.battles.scenarios.maps import MAPS
from gpgrad.envs.battles.scenarios.units import UNITS
from gpgrad.envs.battles.state import Field, facts
from gpgrad.envs.battles.ticks import avoidance, targets, tick, turns
from gpgrad.envs.battles.ticks.targets import Commands

DATA = Path(__file__).parents[1] / "data" / "battles"
KINDS = tuple(UNITS)
NEVER = Switches(raises=True)  # SMAClite's own rules


class Trace(NamedTuple):
    """raw: the file. kinds: type of each unit. ours: its allied units. terrain: by name."""

    raw: dict[str, np.ndarray]
    kinds: list[str]
    ours: slice
    terrain: str

    @property
    def ticks(self) -> int:
        """Recorded."""
        return len(self.raw["tick_order"])

    @property
    def ours_first(self) -> bool:
        """Whether allied units have the lower numbers."""
        return self.ours.start == 0


@functools.cache
def load(name: str, folder: Path = DATA) -> Trace:
    """The recording of a file name."""
    with np.load(folder / f"{name}.npz") as file:
        raw = dict(file)
    names = [str(kind).lower() for kind in raw["types"]]
    ours = np.flatnonzero(raw["side"] == 0)
    said = re.search(r"terrain (\w+)", str(raw["note"]))
    terrain = said[1] if said else MAPS[name.rsplit("-", 2)[0]].terrain
    return Trace(
        raw,
        [names[kind] for kind in raw["type"]],
        slice(int(ours[0]), int(ours[-1]) + 1),
        "OPEN" if terrain == "None" else terrain,
    )


class Ticks(NamedTuple):
    """All ticks of some recordings: before and after [N, K], what was decided, and the names of recordings [K].

    real: bool [N, K], units that are no padding. tables: floats and integers before and after, [K, N, columns].
    """

    rules: Rules
    types: np.ndarray
    before: Field
    after: Field
    commands: Commands
    position: np.ndarray
    decided: np.ndarray
    target: np.ndarray
    real: np.ndarray
    source: np.ndarray


def ticks_of(traces: Sequence[tuple[str, Trace]], switches: Switches = NEVER) -> Ticks:
    """The ticks of recordings with one terrain and one order of sides."""
    first = traces[0][1]
    n_ours = max(t.ours.stop - t.ours.start for _, t in traces)
    n_theirs = max(len(t.kinds) - (t.ours.stop - t.ours.start) for _, t in traces)
    ours = slice(0, n_ours) if first.ours_first else slice(n_theirs, n_theirs + n_ours)
    theirs = slice(n_ours, n_ours + n_theirs) if first.ours_first else slice(0, n_theirs)
    size = n_ours + n_theirs
    assert {(t.terrain, t.ours_first) for _, t in traces} == {(first.terrain, first.ours_first)}
    rules = Rules(
        types=None,
        kinds=KINDS,
        shown=True,
        ours=ours,
        theirs=theirs,
        agent_units=np.arange(ours.start, ours.stop),
        start=np.zeros((size, 2), np.float32),
        attack_point=None,
        terrain=first.terrain,
        healers=np.arange(size),
        switches=switches,
    )
    parts = [_padded(rules, name, trace) for name, trace in traces]
    return Ticks(rules, *jax.tree.map(lambda *leaves: np.concatenate(leaves, -1), *parts))


def _padded(rules: Rules, name: str, trace: Trace) -> tuple:
    raw, k, size = trace.raw, trace.ticks, rules.n_units
    floats, ints = raw["tick_float"], raw["tick_int"].astype(np.int32)
    if len(floats) == k:  # the last table is that of the step
        floats = np.concatenate([floats, raw["step_float"][-1:]])
        ints = np.concatenate([ints, raw["step_int"][-1:].astype(np.int32)])
    row = np.zeros(len(trace.kinds), int)  # padded number of each unit
    row[trace.ours] = rules.ours.start + np.arange(trace.ours.stop - trace.ours.start)
    others = np.flatnonzero(np.isin(np.arange(len(row)), np.arange(len(row))[trace.ours], invert=True))
    row[others] = rules.theirs.start + np.arange(len(others))

    def spread(values: np.ndarray, rest) -> np.ndarray:  # [K, units, ...] to [N, ..., K]
        wide = np.full((size, *values.shape[2:], values.shape[0]), rest, values.dtype)
        wide[row] = np.moveaxis(values, 0, -1)
        return wide

    def numbers(units: np.ndarray) -> np.ndarray:
        return np.where(units >= 0, row[np.maximum(units, 0)], -1).astype(np.int32)

    def field(floats: np.ndarray, ints: np.ndarray) -> Field:
        x, y, vx, vy, health, shield, energy, cooldown, wait, pool = (spread(floats[..., c], 0) for c in range(10))
        ticks = lambda seconds: np.ceil(seconds * 16 - 1e-3).astype(np.int32)
        alive, target, attacks = spread(ints[..., 0], 0), spread(numbers(ints[..., 1]), -1), spread(ints[..., 4], 0)
        return Field(
            x, y, vx, vy, health, shield, energy, pool, ticks(cooldown), ticks(wait), target, attacks == 1, alive == 1
        )

    position = np.full((size, k), size, np.int32)
    for rank, units in enumerate(raw["tick_order"].T):
        at = np.flatnonzero(units >= 0)
        position[row[units[at]], at] = rank
    kind = spread(ints[:k, :, 2], 0)[rules.ours]
    victim = spread(numbers(ints[:k, :, 3]), -1)[rules.ours]
    goal = spread(np.nan_to_num(raw["tick_goal"][:k]), 0)[rules.ours]
    point = [np.full(k, z, np.float32) for z in raw["attack_point"]]
    commands = Commands(kind, np.where(kind == 2, victim, -1), goal[:, 0], goal[:, 1], *point)
    types = np.full((size, k), KINDS.index(trace.kinds[0]), np.int32)
    types[row] = np.array([KINDS.index(kind) for kind in trace.kinds])[:, None]
    real = np.zeros((size, k), bool)
    real[row] = True
    decided = spread(raw["tick_decided"][:k], 0)  # [N, 5, K]
    target = spread(numbers(raw["tick_target"][:k].astype(np.int32)), -1)
    source = np.full(k, name, object)
    after = field(floats[1 : k + 1], ints[1 : k + 1])
    return types, field(floats[:k], ints[:k]), after, commands, position, decided, target, real, source


class Ahead(NamedTuple):
    """One tick ahead from every recorded table."""

    wishes: targets.Wishes
    velocity: tuple[np.ndarray, np.ndarray]
    after: Field
    reward: np.ndarray


def run(ticks: Ticks) -> Ahead:
    """The result of the rules for each tick."""

    @jax.jit
    def play(types, before, commands, position):
        own = facts(ticks.rules, types)
        wishes = targets.decide(ticks.rules, own, before, commands)
        velocity = avoidance.avoid(ticks.rules, own, before, wishes)
        after, reward = turns.take(ticks.rules, own, before, wishes, velocity, position)
        return Ahead(wishes, velocity, after, reward)

    given = jax.tree.map(jnp.asarray, (ticks.types, ticks.before, ticks.commands, ticks.position))
    return jax.device_get(play(*given))


def differences(ticks: Ticks, ahead: Ahead) -> dict[str, np.ndarray]:
    """What differs, bool [N, K] each: of living units beyond tolerance, exactly where numbers are whole."""
    alive = ticks.before.alive & ticks.real
    both = ticks.after.alive & ahead.after.alive
    found = {
        "attacks": alive & (ahead.wishes.attacks != (ticks.decided[:, 4] != 0)),
        "target": alive & (ahead.wishes.target != ticks.target),
        "wish": alive & (_gap(ahead.wishes.vx, ahead.wishes.vy, ticks.decided[:, :2]) > 1e-3),
        "velocity": alive & (_gap(*ahead.velocity, ticks.decided[:, 2:4]) > 1e-3),
        "alive": ahead.after.alive != ticks.after.alive,
    }
    for name in ("health", "shield", "energy", "pool"):
        found[name] = both & (np.abs(getattr(ahead.after, name) - getattr(ticks.after, name)) > 1e-4)
    for name in ("cooldown", "wait"):
        found[name] = both & (getattr(ahead.after, name) != getattr(ticks.after, name))
    found["target after"] = both & (ahead.after.target != ticks.after.target)
    found["place"] = both & (np.hypot(ahead.after.x - ticks.after.x, ahead.after.y - ticks.after.y) > 1e-4)
    finite = np.all([np.isfinite(z) for z in ahead.velocity], axis=0)
    found["finite"] = alive & ~finite
    return found


def _gap(vx: np.ndarray, vy: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    return np.hypot(vx - recorded[:, 0], vy - recorded[:, 1])


def points(trace: Trace, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computed and recorded points of the recorded steps without the win, from rewards of ticks [K]."""
    raw = trace.raw
    first, steps = int(raw["first_tick"]) // 8, trace.ticks // 8
    computed = reward[: 8 * steps].reshape(steps, 8).sum(1)
    chosen = slice(first, first + steps)
    won = raw["won"][chosen] & raw["done"][chosen]
    return computed, raw["reward"][chosen] / 20 * raw["max_reward"] - np.where(won, 200, 0)


__all__ = ["Ahead", "Ticks", "Trace", "differences", "load", "points", "run", "tick", "ticks_of"]
