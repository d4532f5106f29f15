"""Experiments that train nothing: what methods weigh, and how long they take."""

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
    """A table for people and programs. stem: of its file."""

    stem: str
    title: str
    header: list[str]
    rows: list[list[str]]
    words: str


def write(definition: Definition, scale: str, setups: Sequence[Setup], folder: Path) -> None:
    """Measure, then write the page and a CSV file for each table."""
    made = times(setups) if definition.measure == "times" else parameters(setups, definition.sizes)
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        with (folder / f"{one.stem}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([one.header, *one.rows])
    told = {"question": definition.question, "paper": definition.paper, "remark": definition.remark}
    summary = {"experiment": definition.name, "scale": scale, **told, "tables": [one.stem for one in made]}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    parts = [f"# {definition.name}, {scale}", definition.question]
    parts += [f"The paper: {definition.paper}"] if definition.paper else []
    parts += [f"Here: {definition.remark}"] if definition.remark else []
    for one in made:
        parts += [f"## {one.title}", table(one.header, one.rows), f"{one.words} Numbers: `{one.stem}.csv`."]
    parts += ["## Command", f"```sh\nmake experiment NAME={definition.source} SCALE={scale}\n```"]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def parameters(setups: Sequence[Setup], elsewhere: Mapping[str, Mapping[str, int]]) -> list[Table]:
    """What every arm trains and uses, and what the GradPS paper would count for it; that also in worlds elsewhere."""
    header = ["world", "method", "agents", "in use", "decomposition", "together"]
    rows = []
    for setup in setups:
        trainable, _, effective = parameter_counts.account(setup.config)
        sizes = (trainable.agents, effective.agents, trainable.decomposition, sum(trainable[1:]))
        rows.append([setup.arm.panel, setup.arm.label, *map(str, sizes)])
    words = "Agents: trained parameters of the team. In use: those that act before anything is cloned."
    ours = Table("parameters", "What is trained", header, rows, words)
    return [ours, paper(setups, elsewhere)]


def paper(setups: Sequence[Setup], elsewhere: Mapping[str, Mapping[str, int]]) -> Table:
    """What the GradPS paper would count, in the arms' worlds and in worlds elsewhere."""
    header = ["world", "method", "agents", "agents, % of FuPS", "together", "together, % of FuPS"]
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
    words = "The paper's own counts, dead layers of its code included: agents as in Table 13, together as in Table 12."
    return Table("paper", "As the paper counts", header, rows, words)


def _groups(setups: Sequence[Setup], panel: str) -> int:
    """K of the panel's world, which methods without groups do not carry."""
    found = [setup.config.sharing.options.get("k") for setup in setups if setup.arm.panel == panel]
    return next((k for k in found if k), 1)


def times(setups: Sequence[Setup]) -> list[Table]:
    """Updates and whole iterations of the arms of each panel, in alternation, relative to the panel's first."""
    header = ["world", "method", "update, ms", "update ratio [95%]", "iteration ratio [95%]", "hours a run"]
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
        f"Medians of {ROUNDS} rounds in which all arms of a world take turns. Hours: of one seed with episodes of full "
        "length, tests and checkpoints apart."
    )
    return [Table("times", "Time", header, rows, words)]


def _ratio(row: dict[str, float], what: str) -> str:
    return f"{row[f'{what} ratio']:.3f} [{row[f'{what} ratio low']:.3f}, {row[f'{what} ratio high']:.3f}]"
