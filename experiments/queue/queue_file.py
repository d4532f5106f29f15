"""The queue file: seeds of experiments to train, in order, with reasons.

    queue:
      - name: gradps_pp_small         # an experiment of the catalog, or a YAML file
        scale: paper
        seeds: 3                      # the first three seeds of the scale; default: all
        arms: [GradPS, FuPS]          # labels; default: all
        panels: [pp_small]            # default: all
        why: Does GradPS help on the small board?

A run is one seed of one arm. Within an entry, all arms train their first seed before any trains its second.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gpgrad.config import strict_yaml
from gpgrad.config.strict_yaml import Reader
from gpgrad.errors import SettingError, suggest
from gpgrad.experiments import definition
from gpgrad.experiments.availability import obstacle
from gpgrad.experiments.schema import Definition, Setup

FILE = Path(__file__).parents[1] / "queue.yaml"


class Item(NamedTuple):
    """An entry of the file. seeds: number of seeds; None: all of the scale. arms, panels: empty: all."""

    name: str
    scale: str
    seeds: int | None
    arms: tuple[str, ...]
    panels: tuple[str, ...]
    why: str


class Unit(NamedTuple):
    """One seed of one arm. obstacle: the reason why it cannot run on this machine; empty if it can."""

    item: Item
    setup: Setup
    seed: int
    obstacle: str

    @property
    def key(self) -> tuple[str, int]:
        """The key of its run; equal in entries that share the run."""
        return self.setup.identity, self.seed

    @property
    def wanted(self) -> range:
        """Its seed as a range, for `wanted_seeds.next_job` and `wanted_seeds.finished`."""
        return range(self.seed, self.seed + 1)

    @property
    def label(self) -> str:
        """Its name in messages."""
        arm = self.setup.arm
        return f"{self.item.name}, {self.item.scale}: {arm.label} on {arm.panel}, seed {self.seed}"


def load(path: Path) -> list[Unit]:
    """All runs of a queue file, in order. Raises SettingError for any mistake in it."""
    reader = strict_yaml.open_file(path, "the queue")
    items = [_item(entry) for entry in reader.readers("queue")]
    reader.end()
    return [unit for i, item in enumerate(items) for unit in _units(item, f"entry {i + 1} of {path}")]


def _item(reader: Reader) -> Item:
    item = Item(
        name=reader.value("name", str),
        scale=reader.value("scale", str),
        seeds=reader.value("seeds", int, None),
        arms=reader.value("arms", tuple[str, ...], ()),
        panels=reader.value("panels", tuple[str, ...], ()),
        why=reader.value("why", str),
    )
    reader.end()
    return item


def _units(item: Item, place: str) -> list[Unit]:
    try:
        loaded = definition.load(item.name)
        seeds = loaded.scale(item.scale).seeds
        setups = _chosen(item, loaded)
    except SettingError as error:
        raise SettingError(f"{place}: {error}") from None
    count = len(seeds) if item.seeds is None else item.seeds
    if not 1 <= count <= len(seeds):
        raise SettingError(f"seeds of {place} must be 1 to {len(seeds)} at scale {item.scale} (got {count})")
    return [Unit(item, setup, seed, obstacle(setup)) for seed in seeds[:count] for setup in setups]


def _chosen(item: Item, loaded: Definition) -> list[Setup]:
    """The setups of the entry's arms and panels."""
    if loaded.measure != "training":
        raise SettingError(f"an experiment in the queue must train ({loaded.name} measures {loaded.measure})")
    labels = list(dict.fromkeys(arm.label for arm in loaded.arms))
    for kind, given, known in (("arm", item.arms, labels), ("panel", item.panels, loaded.panels)):
        for name in given:
            if name not in known:
                raise SettingError(f"{loaded.name} has no {kind} {name!r}{suggest(name, known)}")
    setups = [
        setup
        for setup in definition.setups(loaded, item.scale)
        if setup.arm.label in (item.arms or labels) and setup.arm.panel in (item.panels or loaded.panels)
    ]
    if not setups:
        raise SettingError(f"{loaded.name} has none of the arms {list(item.arms)} in the panels {list(item.panels)}")
    return setups
