"""RESULTS.md, the index of all reports: the paper's finding, ours, and remarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpgrad.experiments import definition
from gpgrad.experiments.availability import NOT_TESTABLE, obstacle
from gpgrad.experiments.reporting.page import NO_NUMBER, mean, number, table, verdict
from gpgrad.experiments.schema import Definition

PAGE = "RESULTS.md"
MANY = 8  # arms of a panel above which the index shows no values
HEADER = ["report", "the paper", "here", "seeds", "steps", "minutes", "claims", "remark"]
WORDS = """# Results

All experiments with a report, at the scale that was run. Here: the final value of each arm, ± half of its 95 percent
interval (Student's t) over seeds. Minutes: training time, summed over arms and seeds. Claims: the verdicts of a report
form one family, with a probability of at most 5 percent that any is false. They need five seeds, more if a report has
more than six claims. `make experiment NAME=NAME SCALE=SCALE` reproduces a report."""


def write(folder: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """Write the index from the summaries of all reports in a folder; return those of older versions, left out.

    wanted: experiments of the catalog that are listed with a reason if they have no report.
    """
    found = {path: json.loads(path.read_text()) for path in sorted(folder.glob("*/summary.json"))}
    older = [path for path, one in found.items() if "paper" not in one or ("arms" in one and "family" not in one)]
    read = [one for path, one in found.items() if path not in older]
    trained, measured = [one for one in read if "arms" in one], [one for one in read if "arms" not in one]
    parts = [WORDS, table(HEADER, [_row(one) for one in trained])]
    if measured:
        rows = [[_link(one), one["paper"] or NO_NUMBER, one["remark"] or NO_NUMBER] for one in measured]
        parts += ["## Without training", table(["report", "the paper", "here"], rows)]
    if pictured := [
        path.parent for path in sorted(folder.glob("*/README.md")) if path.with_name("summary.json") not in found
    ]:
        parts += [
            "## Pictures of single runs",
            "\n".join(f"- [{place.name}]({place.name}/README.md)" for place in pictured),
        ]
    names = {one["experiment"] for one in read}
    if left := [definition.load(name) for name in wanted if name not in names]:
        rows = [[f"`{one.name}`", one.question, _why(one)] for one in left]
        parts += ["## Without a report", table(["experiment", "question", "why"], rows)]
    (folder / PAGE).write_text("\n\n".join(parts) + "\n")
    return older


def _link(found: Mapping[str, Any]) -> str:
    name = f"{found['experiment']}-{found['scale']}"
    return f"[{name}]({name}/README.md)"


def _why(one: Definition) -> str:
    """The reason why an experiment has no report."""
    reasons = [obstacle(setup) for setup in definition.setups(one, next(iter(one.scales)))]
    return f"{NOT_TESTABLE}: {reasons[0]}" if all(reasons) else "no run finished yet"


def _row(found: Mapping[str, Any]) -> list[str]:
    arms = found["arms"]
    seeds = sorted({len(arm["seeds"]) for arm in arms})
    steps = sorted({arm["steps"] for arm in arms})
    return [
        _link(found),
        found["paper"] or NO_NUMBER,
        "<br>".join(_values(found, panel) for panel in dict.fromkeys(arm["panel"] for arm in arms)),
        _span(seeds),
        _span(steps),
        number(sum(arm["minutes"] for arm in arms)),
        _verdicts(found),
        found["remark"] or NO_NUMBER,
    ]


def _values(found: Mapping[str, Any], panel: str) -> str:
    arms = [arm for arm in found["arms"] if arm["panel"] == panel and arm["final"]]
    if not arms or len(arms) > MANY:
        return f"{panel}: {len(arms)} arms"
    return f"{panel}: " + ", ".join(f"{arm['label']} {mean(arm['final'])}" for arm in arms)


def _span(values: list[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _verdicts(found: Mapping[str, Any]) -> str:
    lines: dict[str, list[str]] = {}
    for entry in found["comparisons"]:
        marked = " (marked)" if entry["marks"] else ""
        lines.setdefault(verdict(entry), []).append(f"{entry['better']} > {entry['worse']}{marked}")
    return "<br>".join(f"{name}: {', '.join(dict.fromkeys(claims))}" for name, claims in lines.items())
