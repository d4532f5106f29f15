"""A pool of N simulators in N workers: batched steps, timeouts, and replacement of failed workers.

Crashed episodes are never learned from. A worker that hangs, exits or returns invalid values is killed with all
processes it started; `reset` and `step` return the failed lanes, and the caller repeats those episodes. For the first
half of the tolerated failures the seed stays the same, so that a fault changes no number; then it changes, so that a
bad seed cannot end a run.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil

from gpgrad.envs.external import worker
from gpgrad.envs.external.memory import Block
from gpgrad.envs.external.process import PATIENCE, Guardian, Process, SimulatorError
from gpgrad.envs.external.protocol import Sizes

LAUNCHES = 4  # simulators started at once; StarCraft II needs a gigabyte and time
_LONGEST_PAUSE = 30.0  # seconds before a worker is restarted
_NEWS = 100  # faults kept until `news` is called


class Care(NamedTuple):
    """Supervision of workers.

    step_seconds, reset_seconds: timeouts after which a worker is restarted; starting one counts as a reset.
    failures: consecutive failures of a lane that are tolerated.
    pause_seconds: pause before the second consecutive restart, doubled each time.
    recycle_episodes: episodes after which a worker is replaced, since simulators leak memory; 0: never.
    """

    step_seconds: float = 60.0
    reset_seconds: float = 300.0
    failures: int = 5
    pause_seconds: float = 1.0
    recycle_episodes: int = 1000


class Lane:
    """A lane with its worker.

    failures: consecutive. stuck: consecutive workers that played an episode and failed in a later reset, as a simulator
    does that can be reset once. episodes: since the worker started. steps: of this episode.
    """

    def __init__(self) -> None:
        self.process: Process | None = None
        self.failures = self.stuck = self.episodes = self.steps = 0
        self.asked = False  # a reply is pending


class Pool:
    """A `VectorSimulator` of workers, started by the first reset. Raises SimulatorError if a lane keeps failing."""

    obs: np.ndarray
    avail: np.ndarray
    state: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: np.ndarray

    def __init__(self, recipe: str, sizes: Sizes, lanes: int, care: Care | None = None) -> None:
        self.sizes, self.care, self._recipe = sizes, care or Care(), recipe
        self._lanes = [Lane() for _ in range(lanes)]
        self._block = Block(sizes, lanes)
        for name in ("obs", "avail", "state", "reward", "terminated", "truncated", "info"):
            setattr(self, name, getattr(self._block, name))
        self._guardian: Guardian | None = None
        self._counts = {"discarded_episodes": 0, "discarded_steps": 0, "restarts": 0, "recycled": 0}
        self._simulator_seconds, self._simulator_steps = 0.0, 0
        self._news: list[str] = []

    def __len__(self) -> int:
        """Number of lanes."""
        return len(self._lanes)

    def reset(self, lanes: Sequence[int], seeds: Sequence[int]) -> list[int]:
        """Start episodes from seeds, one per given lane; return the failed lanes."""
        failed: list[int] = []
        for lane, seed in zip(lanes, seeds, strict=True):
            tries = self._lanes[lane].failures
            other = tries if 2 * tries > self.care.failures else 0
            self._block.seed[lane] = (int(seed) + other) % 2**64
            self._lanes[lane].steps = 0
            self._tidy(self._lanes[lane])
        without = [lane for lane in lanes if not self._lanes[lane].process]
        ready = [lane for lane in lanes if lane not in without]
        for i in range(0, len(without), LAUNCHES):  # many simulators launch at their first reset
            group = without[i : i + LAUNCHES]
            for lane in group:
                self._start(lane)
            started = [lane for lane in group if self._await_sizes(lane)]
            failed += [lane for lane in group if lane not in started]
            failed += self._ask(worker.RESET, started, self.care.reset_seconds, "reset")
        return failed + self._ask(worker.RESET, ready, self.care.reset_seconds, "reset")

    def step(self, lanes: Sequence[int], actions: np.ndarray) -> list[int]:
        """Step the given lanes with actions int32 [N, A]; return the failed lanes, whose episode is lost."""
        self._block.actions[...] = actions
        failed = self._ask(worker.STEP, lanes, self.care.step_seconds, "step")
        for lane in lanes:
            if lane in failed:
                continue
            place = self._lanes[lane]
            place.steps += 1
            self._simulator_steps += 1
            if self.terminated[lane] or self.truncated[lane]:
                place.failures, place.episodes = 0, place.episodes + 1
        return failed

    def frame(self, lane: int) -> np.ndarray | None:
        """A picture of a lane as it is, uint8 [H, W, 3]; None if the simulator draws none. Raises SimulatorError."""
        process = self._lanes[lane].process
        assert process is not None
        process.link.send(worker.FRAME)
        found = process.hear_picture(self.care.step_seconds)
        return found if found.size else None

    def replay(self, lane: int) -> str:
        """The file, kept until the pool is closed, in which a simulator saved its own replay; "" if it has none."""
        process = self._lanes[lane].process
        assert process is not None
        process.link.send(worker.REPLAY)
        return process.hear_line(self.care.step_seconds)

    def report(self) -> dict[str, Any]:
        """Counts and steps since the start, seconds of the slowest simulators, and each worker's memory in MiB."""
        memory = [round(resident(lane.process.pid) / 2**20, 1) for lane in self._lanes if lane.process]
        seconds = round(self._simulator_seconds, 3)
        played = {"simulator_steps": self._simulator_steps, "simulator_seconds": seconds}
        return {**self._counts, **played, "worker_mib": memory}

    def news(self) -> list[str]:
        """One line per fault since the last call."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """End all workers and leave nothing behind; the next reset starts new ones."""
        running = [lane.process for lane in self._lanes if lane.process]
        for process in running:
            process.ask_to_close()
        deadline = time.monotonic() + PATIENCE
        for lane in self._lanes:
            if lane.process:
                self._end(lane, max(0.01, deadline - time.monotonic()))
        if self._guardian:
            self._guardian.close()
            self._guardian = None

    def _tidy(self, lane: Lane) -> None:
        """End a worker that is due for replacement."""
        if lane.process is None:
            return
        if lane.asked:  # an interrupted call left a reply unread
            self._end(lane)
        elif self.care.recycle_episodes and lane.episodes >= self.care.recycle_episodes:
            lane.process.ask_to_close()
            self._end(lane, PATIENCE)
            self._counts["recycled"] += 1
        else:
            lane.process.forget_output()

    def _start(self, number: int) -> None:
        """Start a worker, after a pause that grows with consecutive failures."""
        lane = self._lanes[number]
        if lane.failures > 1:
            time.sleep(min(_LONGEST_PAUSE, self.care.pause_seconds * 2.0 ** (lane.failures - 2)))
        if self._guardian is None:
            self._guardian = Guardian()
        lane.process = Process(self._recipe, self._block.descriptor, number, len(self._lanes))
        self._guardian.note(lane.process, True)
        lane.asked, lane.episodes = True, 0

    def _await_sizes(self, number: int) -> bool:
        """Receive a new worker's sizes; return whether they equal those of the pool."""
        process = self._lanes[number].process
        assert process is not None
        try:
            sizes = process.hear_sizes(self.care.reset_seconds)
        except SimulatorError as error:
            self._fail(number, str(error))
            return False
        if sizes != self.sizes:
            self._fail(number, f"its sizes must be {self.sizes} (got {sizes})")
            return False
        self._lanes[number].asked = False
        return True

    def _ask(self, command: bytes, lanes: Sequence[int], seconds: float, what: str) -> list[int]:
        """Send a command to lanes and wait for all replies; return failed lanes, whose workers have ended."""
        poll, waiting = select.poll(), {}
        for number in lanes:
            lane = self._lanes[number]
            assert lane.process is not None
            lane.asked = True
            with contextlib.suppress(OSError):  # a dead worker is detected when its reply is read
                lane.process.link.send(command)
            waiting[lane.process.link.fileno()] = number
            poll.register(lane.process.link, select.POLLIN)
        failed, deadline = [], time.monotonic() + seconds
        while waiting:
            ready = poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))
            if not ready:
                break
            for descriptor, _ in ready:
                number = waiting.pop(descriptor)
                poll.unregister(descriptor)
                if self._hears(number):
                    self._lanes[number].asked = False
                else:
                    failed.append(number)
        answered = [lane for lane in lanes if not self._lanes[lane].asked]
        if answered:
            self._simulator_seconds += float(self._block.seconds[answered].max())
        for number in answered if command == worker.RESET else ():
            if self._lanes[number].episodes:
                self._lanes[number].stuck = 0
        for number in failed:
            process = self._lanes[number].process
            assert process is not None
            self._lanes[number].stuck += command == worker.RESET and self._lanes[number].episodes > 0
            self._fail(number, f"its worker exited during a {what}: {process.reason()}")
        for number in waiting.values():
            self._fail(number, f"no answer to a {what} within {seconds:g} s")
        return failed + list(waiting.values())

    def _hears(self, number: int) -> bool:
        process = self._lanes[number].process
        assert process is not None
        try:
            return process.link.recv(1) == worker.DONE
        except OSError:
            return False

    def _fail(self, number: int, why: str) -> None:
        """Kill a lane's worker and count the failure. Raises SimulatorError if there are too many."""
        lane = self._lanes[number]
        assert lane.process is not None
        lane.failures += 1
        tries = max(lane.failures, lane.stuck)
        words = kept = ""
        if tries > self.care.failures:
            words, kept = lane.process.last_words(), lane.process.keep_output()
        self._end(lane)
        self._counts["discarded_episodes"] += lane.steps > 0
        self._counts["discarded_steps"] += lane.steps
        self._counts["restarts"] += 1
        self._news = [*self._news[-_NEWS:], f"lane {number}: {why}; a new worker repeats its episode"]
        if tries > self.care.failures:
            where = f"\n(all of its output is in {kept})" if kept else ""
            raise SimulatorError(f"lane {number} failed {tries} times in a row, the last time: {why}; {words}{where}")

    def _end(self, lane: Lane, patience: float = 0.0) -> None:
        assert lane.process is not None
        lane.process.kill(patience)
        if self._guardian:
            self._guardian.note(lane.process, False)
        lane.process, lane.asked, lane.episodes = None, False, 0


def resident(pid: int) -> int:
    """Memory in bytes of a process and its children."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total
