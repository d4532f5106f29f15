"""Experiments without training: parameter counts and run times of methods."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gpgrad.analysis import bench, parameter_counts
from gpgrad.experiments.reporting.page import number, table
from gpgrad.experiments.schema import Definition, Setup
from gpgrad.learning.compose import compose

ROUNDS = 20


class Table(NamedTuple):
    """A table of a report. stem: name of its CSV file."""

    stem: str
    title: str
    header: list[str]
    rows: list[list[str]]
    words: str


def write(definition: Definition, scale: str, setups: Sequence[Setup], folder: Path) -> None:
    """Measure, then write the page and one CSV file per table."""
    made = times(setups) if definition.measure == "times" else parameters(setups, definition.sizes)
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        with (folder / f"{one.stem}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([one.header, *one.rows])
    words = {"question": definition.question, "paper": definition.paper, "remark": definition.remark}
    summary = {"experiment": definition.name, "scale": scale, **words, "tables": [one.stem for one in made]}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    parts = [f"# {definition.name}, {scale}", definition.question]
    parts += [f"The paper: {definition.paper}"] if definition.paper else []
    parts += [f"Here: {definition.remark}"] if definition.remark else []
    for one in made:
        parts += [f"## {one.title}", table(one.header, one.rows), f"{one.words} Numbers: `{one.stem}.csv`."]
    parts += ["## Command", f"```sh\nmake experiment NAME={definition.source} SCALE={scale}\n```"]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def parameters(setups: Sequence[Setup], elsewhere: Mapping[str, Mapping[str, int]]) -> list[Table]:
    """Parameters that each arm trains and uses, and the counts of the GradPS paper (Tables 12 and 13).

    elsewhere: sizes of environments that gpgrad does not have, for the paper's counts.
    """
    header = ["environment", "method", "agents", "in use", "decomposition", "total"]
    rows = []
    for setup in setups:
        trainable, _, effective = parameter_counts.account(setup.config)
        sizes = (trainable.agents, effective.agents, trainable.decomposition, sum(trainable[1:]))
        rows.append([setup.arm.panel, setup.arm.label, *map(str, sizes)])
    words = "Agents: trained parameters of the team. In use: those in use before any neuron is cloned."
    ours = Table("parameters", "Trained parameters", header, rows, words)
    return [ours, paper(setups, elsewhere)]


def paper(setups: Sequence[Setup], elsewhere: Mapping[str, Mapping[str, int]]) -> Table:
    """The counts of the GradPS paper, for the arms' environments and for others given by their sizes."""
    header = ["environment", "method", "agents", "agents, % of FuPS", "total", "total, % of FuPS"]
    counted = [
        (
            setup.arm.panel,
            setup.label,
            parameter_counts.sizes(setup.config)._replace(groups=_groups(setups, setup.arm.panel)),
        )
        for setup in setups
    ]
    labels = list(dict.fromkeys(setup.label for setup in setups))
    counted += [
        (world, label, parameter_counts.Sizes(**sizes)) for world, sizes in elsewhere.items() for label in labels
    ]
    rows = []
    for world, label, sizes in counted:
        if label in parameter_counts.METHODS:
            agents = parameter_counts.paper_agents(label, sizes)
            alone, whole = parameter_counts.paper_percent(label, sizes)
            counts = (str(agents), f"{alone:.2f}", str(agents + parameter_counts.paper_mixer(sizes)), f"{whole:.2f}")
            rows.append([world, label, *counts])
    words = "Counted as in the paper, with unused layers of its code: agents as in Table 13, total as in Table 12."
    return Table("paper", "Counts of the paper", header, rows, words)


def _groups(setups: Sequence[Setup], panel: str) -> int:
    """K of the panel's environment, which methods without groups do not have."""
    found = [setup.config.sharing.options.get("k") for setup in setups if setup.arm.panel == panel]
    return next((k for k in found if k), 1)


def times(setups: Sequence[Setup]) -> list[Table]:
    """Times of updates and iterations of the arms of each panel, in alternation, relative to its first arm."""
    header = ["environment", "method", "update, ms", "update ratio [95%]", "iteration ratio [95%]", "hours per run"]
    rows = []
    for panel in dict.fromkeys(setup.arm.panel for setup in setups):
        mine = [setup for setup in setups if setup.arm.panel == panel]
        ready = [bench.setup(setup.arm.label, setup.config) for setup in mine]
        measured = bench.report(ready, bench.measure(ready, ROUNDS, ("update", "iteration")))
        for setup, row in zip(mine, measured, strict=True):
            episodes = setup.config.t_max / compose(setup.config).env.spec.episode_limit
            hours = episodes / row["trained episodes/s"] / 3600
            ratios = (_ratio(row, "update"), _ratio(row, "iteration"))
            rows.append([panel, setup.arm.label, number(row["update ms"]), *ratios, number(hours)])
    words = (
        f"Medians of {ROUNDS} rounds in which all arms of an environment take turns. Hours: one seed with episodes of "
        "full length, without tests and checkpoints."
    )
    return [Table("times", "Time", header, rows, words)]


def _ratio(row: dict[str, float], what: str) -> str:
    return f"{row[f'{what} ratio']:.3f} [{row[f'{what} ratio low']:.3f}, {row[f'{what} ratio high']:.3f}]"
