"""The records of an experiment: arms, scales, drawings, claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gpgrad.errors import SettingError, suggest

if TYPE_CHECKING:
    from gpgrad.config.schema import Config

SIZES = ("agents", "inputs", "actions", "state", "groups")  # inputs: observation size without an agent id
Axis = Literal["steps", "updates", "hours"]
Kind = Literal["curves", "traces", "chance", "grids", "bars", "profiles"]


class Arm(NamedTuple):
    """One of the compared configurations. label: its name in figures. Arms of a panel are drawn together."""

    label: str
    env: str
    algo: str
    preset: str | None
    overrides: Mapping[str, Any]
    panel: str


class Scale(NamedTuple):
    """The seeds and settings of a run of the experiment. `overrides` take precedence over those of arms."""

    seeds: range
    overrides: Mapping[str, Any]


class Drawing(NamedTuple):
    """A figure of logged values.

    kind: `curves`: the experiment's metric, one plot per panel. `traces`: several logged numbers by steps, one plot
        per arm. `chance`: one logged number of all arms by steps beside its value under chance, one plot per panel.
        `grids`: a logged matrix after training as heat maps, one per arm. `bars`: a number after training for each
        arm, also as a LaTeX table. `profiles`: fraction of runs above each score.
    name: stem of its files.
    centre: statistic over seeds of the lines.
    lines: of `traces`, label to logged number; `flow[0,1,0]` is one entry of an array.
    metric: of `chance` and `grids`; of `bars` and `profiles`, by default the experiment's.
    ylabel: label of the y axis.
    seeds: of `grids`, the number of seeds with a heat map each; 0: the mean over all seeds.
    marked: of `grids`, a logged list with a role for each row and column; roles other than 0 come first and are marked.
    beside: of `grids`, two logged lists shown beside the names of rows and of columns.
    chance: of `chance`, the logged number under random signs.
    arms: labels of the arms drawn; empty: all.
    by: of `curves`, the x axis.
    """

    kind: Kind
    name: str
    centre: Literal["mean", "iqm"]
    lines: Mapping[str, str]
    metric: str
    ylabel: str
    seeds: int
    marked: str
    beside: str
    chance: str = ""
    arms: tuple[str, ...] = ()
    by: Axis = "steps"


@dataclass(frozen=True)
class Definition:
    """One experiment.

    source: its name or file.
    claims: pairs of indices into `arms`; the first is claimed to be better.
    interactions: four indices into `arms` of one panel each: `both` methods, one, the other, `neither`.
    measure: `training`, or without training `parameters` or `times` of methods.
    sizes: for parameter counts in environments that gpgrad does not have, their `SIZES` by name.
    """

    name: str
    source: str
    question: str
    arms: tuple[Arm, ...]
    claims: tuple[tuple[int, int], ...]
    metric: str
    threshold: float | None
    drawings: tuple[Drawing, ...]
    scales: Mapping[str, Scale] = field(default_factory=dict)
    interactions: tuple[tuple[int, ...], ...] = ()
    measure: Literal["training", "parameters", "times"] = "training"
    paper: str = ""
    remark: str = ""
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def scale(self, name: str) -> Scale:
        """The scale of that name. Raises SettingError if there is none."""
        if name not in self.scales:
            raise SettingError(f"{self.name} has no scale {name!r}{suggest(name, self.scales)}")
        return self.scales[name]

    @property
    def panels(self) -> list[str]:
        """Names of panels, in the order of arms."""
        return list(dict.fromkeys(arm.panel for arm in self.arms))


class Setup(NamedTuple):
    """An arm at a scale. config: its settings. identity: of its runs. seeds: those it needs; config's are ignored."""

    arm: Arm
    config: Config
    identity: str
    seeds: range
    options: Mapping[str, Any]

    @property
    def settings_id(self) -> str:
        """The identity without numerics versions."""
        from gpgrad.config import identity

        return identity(self.config, {})

    @property
    def label(self) -> str:
        """The arm's label."""
        return self.arm.label

    @property
    def env(self) -> str:
        """The arm's environment."""
        return self.arm.env

    @property
    def algo(self) -> str:
        """The arm's algorithm."""
        return self.arm.algo
