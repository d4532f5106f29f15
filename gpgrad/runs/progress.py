"""Progress on the terminal: a live line while a run goes on, a lasting line for every test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gpgrad.runs import stats
from gpgrad.runs.logs import Row

COLUMNS = 80  # of a terminal, and of the lines of a test


class Display:
    """Steps, steps per second, epsilon, loss, time left; returns of tests, ± half of the 95 percent interval."""

    def __init__(self, title: str, total: int) -> None:
        self._total, self._console, self._broken = total, Console(), False
        self._progress = Progress(
            TextColumn(f"[bold]{title}[/bold]"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps {task.fields[line]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, line="compiling")
        self._last = (time.monotonic(), 0.0)
        self._rate = 0.0
        self._begun: tuple[float, int] | None = None  # when the first test of this process was, and its steps
        self._played: tuple[float, float, float] | None = None  # at the last test: time, simulators' steps and seconds

    def start(self) -> None:
        """Begin drawing."""
        self._try(self._progress.start)

    def stop(self) -> None:
        """Stop drawing."""
        self._try(self._progress.stop)

    def update(self, steps: float, place: Row, means: Row) -> None:
        """Update the live line; the rate is that of the latest chunk."""
        now = time.monotonic()
        then, before = self._last
        self._rate, self._last = (steps - before) / max(now - then, 1e-9), (now, steps)
        loss = means.get("loss")
        line = f"{self._rate:,.0f}/s eps {place['epsilon']:.2f}" + (f" loss {loss:.3g}" if loss is not None else "")
        self._try(lambda: self._progress.update(self._task, completed=min(steps, self._total), line=line))

    def test(self, rows: list[Row], timing: Row | None = None) -> None:
        """Print a test, in lines of at most 80 columns that break between numbers.

        timing: of external simulators, `Pool.report`.
        """
        first, now = rows[0], time.monotonic()
        steps = first["env_steps"]
        self._last = (now, self._last[1])
        parts = [f"{steps:>10,} steps {steps / self._total:>4.0%}"]
        parts.append(f"return {spread(rows, 'test_return')}")
        if "test_won" in first:
            parts.append(f"won {spread(rows, 'test_won')}")
        if "payoff_error" in first:
            parts.append(f"payoff error {spread(rows, 'payoff_error', '.3g')}")
        if any(row.get("loss") is not None for row in rows) or any(row.get("nonfinite_updates") for row in rows):
            parts.append(f"loss {spread(rows, 'loss', '.3g')}")
        parts.append(f"eps {first['epsilon']:.2f}")
        if self._rate:
            parts.append(f"{self._rate:,.0f} steps/s")
        parts += self._simulators(timing or {}, now)
        if self._begun and steps > self._begun[1]:
            seconds = (now - self._begun[0]) / (steps - self._begun[1]) * max(0, self._total - steps)
            parts.append(f"{duration(seconds)} left")
        self._begun = self._begun or (now, steps)
        if len(rows) > 1:
            parts.append(seeds_of(rows))
        for line in filled(parts):
            self.say(line)

    def _simulators(self, timing: Row, now: float) -> list[str]:
        """Steps per second since the last test, of simulators while they play, and of everything else in its time."""
        if "simulator_steps" not in timing:
            return []
        before, self._played = self._played, (now, timing["simulator_steps"], timing["simulator_seconds"])
        if before is None:
            return []
        whole, steps, busy = (new - old for new, old in zip(self._played, before, strict=True))
        if not steps:
            return []
        return [f"simulators {steps / max(busy, 1e-9):,.0f}/s, learner {steps / max(whole - busy, 1e-9):,.0f}/s"]

    def final(self, rows: list[Row]) -> None:
        """Print the test of the last parameters."""
        self.say(f"final test: return {spread(rows, 'test_return')} ({seeds_of(rows)})")

    def say(self, line: str) -> None:
        """Print a lasting line."""
        text = encodable(line, self._console.encoding)
        self._try(lambda: self._console.print(text, highlight=False, soft_wrap=True))

    def _try(self, draw: Callable[[], None]) -> None:
        """Draw, unless the terminal is gone: a run goes on without it."""
        if self._broken:
            return
        try:
            draw()
        except (OSError, UnicodeError):
            self._broken = True


def filled(parts: Sequence[str]) -> list[str]:
    """Parts of a line, two spaces apart, in as few lines of COLUMNS as they need; all but the first are indented."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 2 + len(part) <= COLUMNS:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"{'':17}{part}")
    return lines


def duration(seconds: float) -> str:
    """About how long, in two units: 2 h 05 min, 3 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def encodable(line: str, encoding: str) -> str:
    """The line with what an encoding lacks in other words, or as question marks."""
    try:
        line.encode(encoding)
    except UnicodeError:
        return line.replace("±", "+-").encode(encoding, "replace").decode(encoding)
    except LookupError:
        return line.replace("±", "+-").encode("ascii", "replace").decode("ascii")
    return line


def spread(rows: list[Row], name: str, form: str = ".2f") -> str:
    """Mean and, with several seeds, ± half of its 95 percent interval; of those whose number is finite."""
    values = [row[name] for row in rows if row[name] is not None]
    if not values:
        return "not finite"
    left = f" ({len(values)} of {len(rows)} seeds finite)" if len(values) < len(rows) else ""
    return stats.shown(values, form, form, alone="") + left


def seeds_of(rows: list[Row]) -> str:
    """How many seeds a line is about, and what ± means in it."""
    return "1 seed" if len(rows) == 1 else f"{len(rows)} seeds, ± 95%"


def seeds_text(seeds: Sequence[int]) -> str:
    """Some seeds for people."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    stretch = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]} to {seeds[-1]}" if stretch else f"seeds {', '.join(map(str, seeds))}"
