"""The files of a report: README.md, figures with their data, summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpgrad import plots
from gpgrad.experiments.reporting import drawings, report
from gpgrad.experiments.reporting.drawings import Picture, metric_text
from gpgrad.experiments.reporting.report import Result
from gpgrad.experiments.schema import Definition
from gpgrad.methods import registry
from gpgrad.runs import verdicts
from gpgrad.runs.progress import seeds_text
from gpgrad.runs.run_folder import RunFolder

NO_NUMBER = "-"
ONE = "(1 seed)"  # instead of an interval
TESTED = ("difference [interval]", "p", "adjusted p")
PRODUCED = (".json", ".csv", ".png", ".svg", ".pdf", ".tex")  # suffixes of files that a report writes


def write(
    folder: Path, definition: Definition, scale: str, results: Sequence[Result], runs: Sequence[RunFolder]
) -> dict[str, Any]:
    """Write all files of a report, replacing those of an earlier one, and return its summary. Raises SettingError."""
    plots.require()
    found = report.summary(definition, scale, results, runs)
    exports, obstacle = report.as_layouts(definition, results)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix in PRODUCED:
            path.unlink()
    pictures = drawings.draw(definition, results, folder)
    for name, content in {"summary.json": found, **exports}.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    (folder / "README.md").write_text(page(definition, found, pictures, sorted(exports), obstacle))
    return found


def page(
    definition: Definition,
    found: Mapping[str, Any],
    pictures: Sequence[Picture],
    exports: Sequence[str],
    obstacle: str,
) -> str:
    """The report in Markdown."""
    parts = [
        f"# {found['experiment']}, {found['scale']}",
        found["question"],
        *([f"The paper: {found['paper']}"] if found["paper"] else []),
        *([f"Here: {found['remark']}"] if found["remark"] else []),
        *_unfinished(found),
        *_few(found),
        *(f"![{picture.title}]({picture.stem}.png)\n\n{picture.words}" for picture in pictures),
        "## Results",
        _results(definition, found),
        *_acted(found),
        *_comparisons(found),
        *_interactions(found),
        *_settings(found),
        "## Commands",
        _commands(definition, found),
        "## Made with",
        _versions(found),
        "## Files",
        _files(pictures, exports, obstacle),
    ]
    return "\n\n".join(parts) + "\n"


def _unfinished(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for arm in found["arms"]:
        for state in dict.fromkeys(arm["missing"].values()):
            seeds = [int(seed) for seed, its in arm["missing"].items() if its == state]
            lines.append(f"- {arm['label']} on {arm['panel']}, {seeds_text(seeds)}: {state}")
    return ["**Unfinished.** Not included yet:\n\n" + "\n".join(lines)] if lines else []


def _few(found: Mapping[str, Any]) -> list[str]:
    """The number of seeds that verdicts need, if a claim or arm has fewer."""
    counts = [len(arm["seeds"]) for arm in found["arms"] if arm["seeds"]]
    open_claims = [c for c in [*found["comparisons"], *found["interactions"]] if c["verdict"] == "not conclusive"]
    needed = max((claim["needed"] for claim in open_claims), default=verdicts.ENOUGH_SEEDS)
    if not open_claims and not any(count < needed for count in counts):
        return []
    family = f" with {found['family']} claims" if found["family"] > 1 else ""
    return [f"**Not conclusive.** A verdict{family} needs {needed} seeds per arm."]


def _results(definition: Definition, found: Mapping[str, Any]) -> str:
    threshold = [] if definition.threshold is None else [f"steps to {number(definition.threshold)}"]
    metric = f"final {metric_text(definition.metric)}"
    header = ["panel", "arm", "seeds", f"{metric}, mean ± 95%", f"{metric}, IQM [95%]", "area under the curve ± 95%"]
    rows = [
        [
            arm["panel"],
            arm["label"],
            f"{len(arm['seeds'])} of {len(arm['seeds']) + len(arm['missing'])}",
            mean(arm["final"]),
            _estimate(arm["iqm"]),
            mean(arm["area"]),
            *([_reached(arm["steps_to_threshold"])] if threshold else []),
        ]
        for arm in found["arms"]
    ]
    words = (
        "Final: mean over fresh episodes with the final parameters. ±: half of the 95 percent interval (Student's t) "
        "over seeds. IQM: interquartile mean with a bootstrap interval, which is too narrow for few seeds. Area: mean "
        "over training."
    )
    if threshold:
        words += " Steps: median over seeds of the steps until a test reaches the threshold."
    return table([*header, *threshold], rows) + "\n\n" + words


def _acted(found: Mapping[str, Any]) -> list[str]:
    """How active the methods were, and which runs are inconclusive about their method."""
    checks = [c for c in registry.activity_checks() if any(c.metric in arm["acted"] for arm in found["arms"])]
    if not checks:
        return []
    rows = []
    for arm in found["arms"]:
        if arm["acted"]:
            amounts = [arm["acted"].get(check.metric) for check in checks]
            cells = [f"{number(a['last'])} ({number(a['most'])})" if a else NO_NUMBER for a in amounts]
            rows.append([arm["panel"], arm["label"], *cells])
    words = "Value at the last test, and in brackets the maximum over all tests; means over seeds."
    parts = [table(["panel", "arm", *(check.words for check in checks)], rows), words]
    lacking = [f"- {arm['label']} on {arm['panel']}: {line}" for arm in found["arms"] for line in arm["lacking"]]
    return ["## Method activity", *parts, *(["\n".join(lacking)] if lacking else [])]


def _comparisons(found: Mapping[str, Any]) -> list[str]:
    if not found["comparisons"]:
        return []
    marked = any(entry["marks"] for entry in found["comparisons"])
    rows = []
    for entry in found["comparisons"]:
        rows.append(
            [
                entry["panel"],
                f"{entry['better']} > {entry['worse']}",
                verdict(entry),
                *_tested(entry.get("difference")),
                _estimate(entry.get("probability_of_improvement")),
                str(len(entry["seeds"])),
                "methods" if entry["of_methods"] else "not a comparison of methods: " + "; ".join(entry["because"]),
                *(["; ".join(entry["marks"]) or NO_NUMBER] if marked else []),
            ]
        )
    header = ["panel", "claim", "verdict", *TESTED, "probability of improvement [95%]", "seeds", "compares"]
    words = [_family(found)]
    if marked:
        words.append("Marks: the arms were trained with different numerics versions, which may cause the difference.")
    return ["## Comparisons", table([*header, *(["marks"] if marked else [])], rows), *words]


def _family(found: Mapping[str, Any]) -> str:
    """Explanation of the verdicts."""
    n = found["family"]
    kinds = "claims and interactions" if found["interactions"] else "claims"
    family = f"The {n} {kinds} of this report form one family" if n > 1 else "The claim of this report is tested alone"
    return (
        f"{family}: if all arms are equal, the probability of any verdict `shown` or `contradicted` is at most 5 "
        "percent. p: exact permutation test of the final values over the seeds that all arms of the claim have. "
        "Adjusted p: Holm's procedure. `shown` and `contradicted` need an adjusted p of at most 0.05 and at least "
        f"{verdicts.ENOUGH_SEEDS} seeds. The interval of a difference has the level at which the procedure tested it, "
        "95 percent or more, and excludes 0 if the adjusted p is at most 0.05; a bound is infinite if the seeds are "
        "too few for that level. `not conclusive`: the seeds are too few for an adjusted p of 0.05."
    )


def _tested(entry: Mapping[str, Any] | None) -> list[str]:
    """Cells of a difference: its interval, p and adjusted p."""
    if entry is None:
        return [NO_NUMBER] * len(TESTED)
    low, high = entry["interval"]
    ends = f"{_end(low, '-inf')}, {_end(high, 'inf')}"
    return [f"{number(entry['mean'])} [{ends}]", *(f"{entry[name]:.2g}" for name in ("p_value", "adjusted_p"))]


def _end(value: float | None, infinite: str) -> str:
    return infinite if value is None else number(value)


def _interactions(found: Mapping[str, Any]) -> list[str]:
    if not found["interactions"]:
        return []
    rows = []
    for entry in found["interactions"]:
        both, one, other, neither = entry["arms"]
        claim = f"({both} - {one}) - ({other} - {neither})"
        rows.append(
            [entry["panel"], claim, verdict(entry), *_tested(entry.get("difference")), str(len(entry["seeds"]))]
        )
    header = ["panel", "interaction", "more than the sum", *TESTED, "seeds"]
    words = "Interactions of final values; their verdicts belong to the family of the comparisons."
    alone = [] if found["comparisons"] else [_family(found)]
    return ["## Interactions", table(header, rows), *(alone or [words])]


def _settings(found: Mapping[str, Any]) -> list[str]:
    parts = []
    for panel, rows in found["differing_settings"].items():
        labels = [arm["label"] for arm in found["arms"] if arm["panel"] == panel]
        if rows:
            cells = [[f"`{name}`", *(text(value) for value in values)] for name, values in rows.items()]
            parts.append(f"## Settings that differ on {panel}\n\n" + table(["setting", *labels], cells))
    return parts


def _commands(definition: Definition, found: Mapping[str, Any]) -> str:
    whole = f"make experiment NAME={definition.source} SCALE={found['scale']}"
    single = [f"# {arm['label']} on {arm['panel']}\n{arm['command']}" for arm in found["arms"]]
    return "```sh\n" + "\n".join([whole, *single]) + "\n```"


def _versions(found: Mapping[str, Any]) -> str:
    rows = [[name, ", ".join(values)] for name, values in found["versions"].items()]
    runs = [f"- {arm['label']}: `{run}`" for arm in found["arms"] for run in arm["runs"]]
    return "\n\n".join(["\n".join(runs), table(["version", "value"], rows)]) if runs else "No run is finished."


def _files(pictures: Sequence[Picture], exports: Sequence[str], obstacle: str) -> str:
    lines = [line for p in pictures for line in (f"`{p.stem}.png`, `.svg`, `.pdf`: {p.title}", *p.data)]
    layouts = [f"`{name}`: for {name.removesuffix('.json').replace('_', '-')}" for name in exports]
    if obstacle:
        layouts.append(f"no files for rliable and marl-eval: {obstacle}")
    return "\n".join(f"- {line}" for line in [*lines, "`summary.json`: all numbers of this page", *layouts])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float | None) -> str:
    """A number with four significant digits."""
    return NO_NUMBER if value is None else f"{value:.4g}"


def text(value: Any) -> str:
    """A setting's value."""
    return NO_NUMBER if value is None else str(value)


def verdict(entry: Mapping[str, Any]) -> str:
    """A verdict, with the seeds that it has and needs if they are too few."""
    if entry["verdict"] != "not conclusive":
        return entry["verdict"]
    return f"not conclusive ({len(entry['seeds'])} of {entry['needed']} seeds)"


def mean(entry: Mapping[str, Any] | None) -> str:
    """A mean over seeds ± half of its 95 percent interval."""
    if entry is None:
        return NO_NUMBER
    low, high = entry["interval"]
    return number(entry["mean"]) + (f" {ONE}" if low is None else f" ± {(high - low) / 2:.2g}")


def _estimate(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return NO_NUMBER
    low, high = entry["interval"]
    return number(entry["value"]) + (f" {ONE}" if low is None else f" [{number(low)}, {number(high)}]")


def _reached(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return NO_NUMBER
    median = "not reached" if entry["median"] is None else plots.steps_text(entry["median"])
    return f"{median} ({entry['reached']} of {entry['of']})"
