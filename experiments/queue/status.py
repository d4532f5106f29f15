"""The state of the queue: finished, running and next runs, and the time left, estimated from finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from gpgrad.config import label
from gpgrad.config.schema import Config
from gpgrad.experiments.queue import lane, queue_file
from gpgrad.experiments.queue.queue_file import Item, Unit
from gpgrad.runs import logs
from gpgrad.runs.progress import seeds_text
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.wanted_seeds import next_job, outdated

Word = Literal["finished", "running", "interrupted", "outdated", "not begun", "not testable here"]
WORDS: tuple[Word, ...] = get_args(Word)
LEFT: tuple[Word, ...] = ("running", "interrupted", "outdated", "not begun")


class State(NamedTuple):
    """The state of one unit. `outdated`: not begun, but finished with other numerics versions.

    steps: environment steps so far. hours: time left on one core; None if no rate is known. run: the running or
    interrupted run.
    """

    unit: Unit
    word: Word
    steps: int = 0
    hours: float | None = 0.0
    run: RunFolder | None = None


class Rates:
    """Seconds per environment step of one seed, measured on finished runs."""

    def __init__(self, found: Sequence[RunFolder]) -> None:
        self._known: dict[tuple[str, ...], list[float]] = {}
        for run in found:
            rows = run.timing if run.finished else []
            if rows and rows[-1].get("env_steps"):
                rate = logs.seconds(rows) / (rows[-1]["env_steps"] * len(run.seeds))
                for key in _alike(run.settings_id, run.config):
                    self._known.setdefault(key, []).append(rate)

    def of(self, unit: Unit) -> float | None:
        """The median over runs with the same settings, else the same environment, algorithm and preset, else the same
        environment and algorithm; None if there are none.
        """
        for key in _alike(unit.setup.settings_id, unit.setup.config):
            if key in self._known:
                return statistics.median(self._known[key])
        return None


def _alike(settings_id: str, config: Config) -> list[tuple[str, ...]]:
    """Keys of runs that take about as long, the closest first."""
    kind = config.env.name, label(config)
    return [(settings_id,), (*kind, config.preset), kind]


def states(units: Sequence[Unit], found: Sequence[RunFolder]) -> list[State]:
    """The state of every unit, in order."""
    rates = Rates(found)
    return [_state(unit, found, rates) for unit in units]


def _state(unit: Unit, found: Sequence[RunFolder], rates: Rates) -> State:
    if unit.obstacle:
        return State(unit, "not testable here")
    job = next_job(found, unit.setup.identity, unit.wanted)
    if job is None:
        return State(unit, "finished")
    steps, total = job.run.steps if job.run else 0, unit.setup.config.t_max
    rate = rates.of(unit)
    hours = None if rate is None else rate * max(total - steps, 0) / 3600
    if job.run:
        return State(unit, "running" if job.action == "wait" else "interrupted", steps, hours, job.run)
    older = outdated(found, unit.setup.identity, unit.setup.settings_id, unit.seed)
    return State(unit, "outdated" if older else "not begun", steps, hours)


def lines(file: Path, root: Path, results: Path) -> Iterator[str]:
    """The lines of `queue --status`. Raises SettingError for mistakes in the queue file."""
    units = queue_file.load(file)
    found, problems = lane.known(root, results)
    yield from problems
    every = states(units, found)
    once = list({state.unit.key: state for state in reversed(every)}.values())[::-1]
    yield _summary(once)
    at_work = lane.lanes(root)
    yield f"lanes: {', '.join(f'process {pid} on core {core}' for core, pid in at_work.items()) or 'none'}"
    for state in once:
        if state.word == "running" and state.run:
            of = f"{state.steps:,} of {state.unit.setup.config.t_max:,} steps"
            yield f"running: {state.unit.label}: {of}, {_time(state.hours)}, process {state.run.holder}"
    following = next((state for state in once if state.word in LEFT and state.word != "running"), None)
    if following:
        yield f"next: {following.unit.label}: {following.word}, {_time(following.hours)}"
    for item in dict.fromkeys(unit.item for unit in units):
        yield from _of_item(item, [state for state in every if state.unit.item == item])


def _summary(once: Sequence[State]) -> str:
    return f"{len(once)} runs: {_counts(once)}; {_left(once)}"


def _of_item(item: Item, own: Sequence[State]) -> Iterator[str]:
    yield f"{item.name}, {item.scale}: {_counts(own)}; {_left(own)}. {item.why}"
    for arm in dict.fromkeys((state.unit.setup.arm.label, state.unit.setup.arm.panel) for state in own):
        seeds: dict[Word, list[int]] = {}
        for state in own:
            if (state.unit.setup.arm.label, state.unit.setup.arm.panel) == arm:
                seeds.setdefault(state.word, []).append(state.unit.seed)
        yield f"  {' on '.join(arm)}: {', '.join(f'{seeds_text(some)} {word}' for word, some in seeds.items())}"


def _counts(some: Sequence[State]) -> str:
    return ", ".join(f"{n} {word}" for word in WORDS if (n := sum(state.word == word for state in some)))


def _left(some: Sequence[State]) -> str:
    """The time left on one core, as far as rates are known."""
    left = [state.hours for state in some if state.word in LEFT]
    measured = [hours for hours in left if hours is not None]
    unknown = len(left) - len(measured)
    text = _time(sum(measured)) if measured or not left else ""
    more = f"{unknown} runs of unknown length" if unknown else ""
    return " and ".join(filter(None, (text, more)))


def _time(hours: float | None) -> str:
    return "time left unknown" if hours is None else f"{hours:.1f} hours left"
