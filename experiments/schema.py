"""What an experiment is made of: its arms, scales and drawings, and what it claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gpgrad.errors import SettingError, suggest

if TYPE_CHECKING:
    from gpgrad.config.schema import Config

SIZES = ("agents", "inputs", "actions", "state", "groups")  # inputs: of an agent, without an id
Axis = Literal["steps", "updates", "hours"]
Kind = Literal["curves", "traces", "chance", "grids", "bars", "profiles"]


class Arm(NamedTuple):
    """One of the things compared: a name for people, and a configuration. Arms of a panel are drawn together."""

    label: str
    env: str
    algo: str
    preset: str | None
    overrides: Mapping[str, Any]
    panel: str


class Scale(NamedTuple):
    """How much of it to run. `overrides` win over those of arms."""

    seeds: range
    overrides: Mapping[str, Any]


class Drawing(NamedTuple):
    """A picture of what runs logged.

    kind: `curves`, the experiment's metric, a panel for each of its panels; `traces`, several logged numbers by steps,
    a panel for each arm; `chance`, one logged number of all arms by steps, a panel for each of the experiment's, with
    what chance would give; `grids`, a logged matrix after training as heat maps, one for each arm; `bars`, a number
    after training for each arm, also as a LaTeX table; `profiles`, the share of runs above each score.
    name: of its files. centre: of lines over seeds. lines: of traces, by label; `flow[0,1,0]` is one number of an
    array. metric: of chance and grids; of bars and profiles, by default the experiment's. chance: of chance, the logged
    number under random signs. ylabel: for people. seeds: of grids, how many get a heat map each; 0: the mean over all.
    marked: of grids, the logged list of what its rows and columns stand for, agents' roles; those not 0 come first and
    stand out. beside: of grids, a logged list for rows and one for columns whose numbers stand beside their names.
    arms: labels of those that are drawn, by default all. by: of curves, what they are drawn against.
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
    """One experiment. source: its name or file. claims: pairs of indices of arms, the first claimed to be better.

    interactions: fours of such indices, `both` methods, one, the other, `neither`, of one panel.
    measure: what is found out: by `training`, or of methods as they are, their `parameters` and `times`.
    sizes: by name, what parameters depend on in worlds that are not here: `SIZES`.
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
        """One of its scales. Raises SettingError for another name."""
        if name not in self.scales:
            raise SettingError(f"{self.name} has no scale {name!r}{suggest(name, self.scales)}")
        return self.scales[name]

    @property
    def panels(self) -> list[str]:
        """Names of panels, in order of arms."""
        return list(dict.fromkeys(arm.panel for arm in self.arms))


class Setup(NamedTuple):
    """An arm at a scale: its configuration (the seeds in it do not matter), what names it, the seeds it needs."""

    arm: Arm
    config: Config
    identity: str
    seeds: range
    options: Mapping[str, Any]

    @property
    def settings_id(self) -> str:
        """The same for any numerics versions."""
        from gpgrad.config import identity

        return identity(self.config, {})

    @property
    def label(self) -> str:
        """The arm's name for people."""
        return self.arm.label

    @property
    def env(self) -> str:
        """The arm's world."""
        return self.arm.env

    @property
    def algo(self) -> str:
        """The arm's algorithm."""
        return self.arm.algo
