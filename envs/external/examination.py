"""Checks of a simulator inside its worker: a few episodes of random available actions. Does not import jax."""

from __future__ import annotations

import time
import traceback
from typing import NamedTuple

import numpy as np

from gpgrad.envs.external.memory import Block
from gpgrad.envs.external.protocol import Outcome, Simulator

SECONDS = 1.0  # of playing; a step that has begun is finished
EPISODES = 4


class Examined(NamedTuple):
    """findings: a sentence each. steps, episodes: numbers played. ended, cut: terminated and truncated episodes."""

    findings: list[str]
    steps: int = 0
    episodes: int = 0
    ended: int = 0
    cut: int = 0
    milliseconds: float = 0.0


def examine(simulator: Simulator) -> dict:
    """Play, and check every result as the trainer would. Returns the fields of `Examined` as JSON values."""
    began = time.perf_counter()
    block, rng = Block(simulator.sizes, 1), np.random.default_rng(0)
    found: list[str] = []
    counts: dict[str, int] = dict.fromkeys(("steps", "episodes", "ended", "cut", "calls"), 0)
    try:
        while not found and counts["episodes"] < EPISODES and time.perf_counter() - began < SECONDS:
            found = _episode(simulator, block, rng, counts, began)
            counts["episodes"] += 1
        doubts = getattr(simulator, "doubts", None)
        found = found or (doubts() if doubts else [])
    except Exception as error:
        traceback.print_exc()
        call = "reset" if counts["calls"] == 0 else f"step {counts['calls']}"
        later = f" of episode {counts['episodes'] + 1}" if counts["episodes"] else ""
        found = [f"{call}{later} raises {described(error)}"]
    milliseconds = round(1000 * (time.perf_counter() - began), 1)
    counts.pop("calls")
    return Examined(found, **counts, milliseconds=milliseconds)._asdict()


def _episode(
    simulator: Simulator, block: Block, rng: np.random.Generator, counts: dict[str, int], began: float
) -> list[str]:
    """Play one episode while time is left; return its violations."""
    limit, counts["calls"] = simulator.sizes.episode_limit, 0
    if found := _wrong(block, Outcome(simulator.reset(counts["episodes"])), "after a reset"):
        return found
    for t in range(limit):
        actions = [int(rng.choice(np.flatnonzero(row))) for row in block.avail[0]]
        counts["calls"] += 1  # of this episode's steps, to tell which of them raises
        outcome = simulator.step(actions)
        counts["steps"] += 1
        if found := _wrong(block, outcome, f"after step {t + 1}"):
            return found
        over, cut = bool(block.terminated[0]), bool(block.truncated[0])
        if over or cut:
            counts["ended"] += over
            counts["cut"] += cut
            return []
        if time.perf_counter() - began > SECONDS:
            return []
    return [f"an episode goes on after episode_limit, {limit} steps: neither terminated nor truncated is true"]


def _wrong(block: Block, outcome: Outcome, when: str) -> list[str]:
    if not isinstance(outcome, Outcome):
        return [f"{when} the result must be a gpgrad.envs.external.protocol.Outcome (got a {type(outcome).__name__})"]
    try:
        block.write(0, outcome)
    except (ValueError, TypeError, AttributeError) as error:
        return [f"{when} {' '.join(str(error).split())}"]
    return []


def described(error: Exception) -> str:
    """An exception as one line, with the place that raised it."""
    place = traceback.extract_tb(error.__traceback__)
    where = f" ({place[-1].filename}, line {place[-1].lineno})" if place else ""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}{where}"
