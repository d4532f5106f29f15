"""The definition of an experiment: a YAML file with its question, arms, claims, drawings and scales.

    question: Does GradPS learn pp_small better than QMIX?
    paper: GradPS gains most      # the paper's finding, if there is a paper
    remark: Three seeds are few.  # a remark on our result
    env: pp_small                 # default of all arms, as are preset and overrides
    envs: [pp_small, pp_large]    # instead of env: arms without env run in each of these, one panel each
    preset: gradps_paper
    overrides: {}
    arms:
      - {label: GradPS, algo: gradps}
      - {label: QMIX, algo: qmix, overrides: {learner.lr: 1.0e-3}, panel: pp_small}
    claims: [[GradPS, QMIX]]      # the first is better; default: the first arm is better than each other arm
    interaction: []               # or [both, A, B, neither]: is the gain of both more than the sum of gains?
    measure: training             # or parameters, or times: tables without training
    sizes:                        # of environments that gpgrad does not have, for tables of parameters
      MMM2: {agents: 10, inputs: 194, actions: 18, state: 322, groups: 3}
    metric: test_return           # a number in rows of metrics.jsonl and final.jsonl
    threshold: 60                 # for steps to threshold; default: none
    drawings:                     # default: learning curves of the metric
      - {kind: curves, centre: mean}
      - {kind: curves, name: by_hours, by: hours}
      - {kind: traces, name: futile, lines: {futile: futile, by chance: futile_chance}, ylabel: futile neurons (%)}
      - {kind: traces, name: efficiency, lines: {mean: mean efficiency, first neuron: "efficiency[0]"}}
      - {kind: chance, name: futile_all, metric: futile, chance: futile_chance, ylabel: futile neurons (%)}
      - {kind: grids, name: conflict, metric: conflict, seeds: 3, marked: roles, arms: [GradPS]}
      - {kind: bars, name: parameters, metric: effective_params}
      - {kind: profiles, name: profile}
    scales:
      quick: {seeds: 3, first_seed: 0, overrides: {t_max: 100000}}
      paper: {seeds: 5}

`load` does not import jax; `setups` resolves the settings, which does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gpgrad.config import strict_yaml
from gpgrad.config.strict_yaml import Reader
from gpgrad.errors import SettingError, suggest
from gpgrad.experiments.schema import SIZES, Arm, Axis, Definition, Drawing, Kind, Scale, Setup

CATALOG = Path(__file__).parent / "catalog"


def names() -> list[str]:
    """All experiments of the catalog."""
    return sorted(path.stem for path in CATALOG.glob("*.yaml"))


def load(name: str) -> Definition:
    """The experiment of the catalog, or of a YAML file. Raises SettingError for any mistake in it."""
    path = Path(name).expanduser() if name.startswith("~") else Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in names():
            raise SettingError(f"unknown experiment {name!r}{suggest(name, names())}")
        path = CATALOG / f"{name}.yaml"
    return _definition(path.stem, name, strict_yaml.open_file(path, "the experiment"))


def setups(definition: Definition, scale: str) -> list[Setup]:
    """The resolved settings of every arm at a scale.

    Raises SettingError for invalid settings, and for two arms of a panel that would train the same.
    """
    from gpgrad import config

    chosen, result = definition.scale(scale), []
    labels: dict[tuple[str, str], str] = {}
    for arm in definition.arms:
        preset = {"preset": arm.preset} if arm.preset is not None else {}
        options = {**preset, **arm.overrides, **chosen.overrides}
        try:
            loaded = config.load(arm.env, arm.algo, {**options, "seed": chosen.seeds[0], "seeds": len(chosen.seeds)})
        except SettingError as error:
            raise SettingError(f"{arm.label} of {definition.name}: {error}") from None
        identity = config.identity(loaded)
        same = labels.setdefault((arm.panel, identity), arm.label)
        if same != arm.label:
            raise SettingError(
                f"{arm.label} of {definition.name} trains the same as {same} in panel {arm.panel!r}; "
                f"arms must differ in what they train"
            )
        result.append(Setup(arm, loaded, identity, chosen.seeds, options))
    return result


def _definition(name: str, source: str, reader: Reader) -> Definition:
    common = {
        "env": reader.name("env", None),
        "preset": reader.name("preset", None),
        "overrides": reader.overrides(),
    }
    worlds = reader.value("envs", Any, None)
    if worlds is not None and (common["env"] or not isinstance(worlds, list) or not worlds):
        raise SettingError(
            f"envs in {reader.source} must be a list of environments, without env beside it (got {worlds!r})"
        )
    named = tuple(worlds or (common["env"],))
    arms = [arm for entry in reader.readers("arms") for arm in _arms(entry, common, named)]
    panels = list(dict.fromkeys(arm.panel for arm in arms))
    arms = tuple(sorted(arms, key=lambda arm: panels.index(arm.panel)))
    keys = [(arm.panel, arm.label) for arm in arms]
    for key in keys:
        if keys.count(key) > 1:
            raise SettingError(
                f"the arms of panel {key[0]!r} in {reader.source} must have different labels (got {key[1]!r} twice)"
            )
    definition = Definition(
        name=name,
        source=source,
        question=reader.value("question", str),
        paper=reader.value("paper", str, ""),
        remark=reader.value("remark", str, ""),
        measure=reader.value("measure", Literal["training", "parameters", "times"], "training"),
        arms=arms,
        claims=_claims(reader, arms),
        interactions=_interactions(reader, arms),
        sizes={name: _sizes(entry) for name, entry in reader.reader("sizes", {}).items()},
        metric=reader.value("metric", str, "test_return"),
        threshold=reader.value("threshold", float | None, None),
        drawings=_drawings(reader, arms),
        scales={key: _scale(entry) for key, entry in _filled(reader.reader("scales")).items()},
    )
    reader.end()
    return definition


def _arms(reader: Reader, common: Mapping[str, Any], worlds: tuple[str | None, ...]) -> list[Arm]:
    """The arms of an entry, one for each environment it runs in."""
    own = reader.name("env", None)
    if own is None and None in worlds:
        raise SettingError(f"{reader.what} in {reader.source} has no env; it must be set there or for all arms")
    label, algo = reader.name("label"), reader.name("algo")
    preset, panel = reader.name("preset", common["preset"]), reader.name("panel", None)
    overrides = {**common["overrides"], **reader.overrides()}
    reader.end()
    named = [own] if own else [world for world in worlds if world]
    if panel and len(named) > 1:
        raise SettingError(
            f"{label} in {reader.source} runs in several environments and must not have a panel of its own"
        )
    return [Arm(label, env, algo, preset, overrides, panel or env) for env in named]


def _scale(reader: Reader) -> Scale:
    count, first = reader.value("seeds", int), reader.value("first_seed", int, 0)
    if count < 1 or first < 0:
        raise SettingError(
            f"{reader.what} in {reader.source} must have 1 or more seeds, the first of 0 or more "
            f"(got {count} from {first})"
        )
    scale = Scale(range(first, first + count), reader.overrides())
    reader.end()
    return scale


def _sizes(reader: Reader) -> dict[str, int]:
    sizes = {name: reader.value(name, int) for name in SIZES}
    reader.end()
    return sizes


def _filled(reader: Reader) -> dict[str, Reader]:
    entries = dict(reader.items())
    if not entries:
        raise SettingError(f"{reader.what} in {reader.source} must have at least one entry")
    return entries


def _drawings(reader: Reader, arms: tuple[Arm, ...]) -> tuple[Drawing, ...]:
    found = tuple(_drawing(entry, [arm.label for arm in arms]) for entry in reader.readers("drawings", [{}]))
    names = [drawing.name for drawing in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"the drawings in {reader.source} must have different names (got {name!r} twice)")
    return found


def _drawing(reader: Reader, labels: list[str]) -> Drawing:
    kind = reader.value("kind", Kind, "curves")
    drawing = Drawing(
        kind=kind,
        name=reader.value("name", str, *(["curve"] if kind == "curves" else [])),
        centre=reader.value("centre", Literal["mean", "iqm"], "mean"),
        lines=dict(reader.value("lines", Any)) if kind == "traces" else {},
        metric=_metric(reader, kind),
        ylabel=reader.value("ylabel", str, ""),
        seeds=reader.value("seeds", int, 0),
        marked=reader.value("marked", str, ""),
        beside=reader.value("beside", str, ""),
        chance=reader.value("chance", str) if kind == "chance" else "",
        arms=reader.value("arms", tuple[str, ...], ()),
        by=reader.value("by", Axis, "steps") if kind == "curves" else "steps",
    )
    for label in drawing.arms:
        if label not in labels:
            raise SettingError(f"unknown arm {label!r} in {reader.what} in {reader.source}{suggest(label, labels)}")
    reader.end()
    return drawing


def _metric(reader: Reader, kind: Kind) -> str:
    if kind in ("curves", "traces"):
        return ""
    return reader.value("metric", str, *([""] if kind in ("bars", "profiles") else []))


def _claims(reader: Reader, arms: tuple[Arm, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs of arms in every panel that has both; by default the first arm of a panel with each other arm."""
    pairs = reader.value("claims", Any, None)
    if pairs is None:
        first = {arm.panel: i for i, arm in reversed(list(enumerate(arms)))}
        return tuple((first[arm.panel], i) for i, arm in enumerate(arms) if first[arm.panel] != i)
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise SettingError(f"claims in {reader.source} must be pairs of labels, the better one first (got {pairs!r})")
    labels = [arm.label for arm in arms]
    for label in (label for pair in pairs for label in pair):
        if label not in labels:
            raise SettingError(f"unknown arm {label!r} in claims in {reader.source}{suggest(str(label), labels)}")
    claims = [
        (i, j)
        for better, worse in pairs
        for i, one in enumerate(arms)
        for j, other in enumerate(arms)
        if (one.label, other.label) == (better, worse) and one.panel == other.panel and i != j
    ]
    return tuple(claims)


def _interactions(reader: Reader, arms: tuple[Arm, ...]) -> tuple[tuple[int, ...], ...]:
    """The four arms of a two-by-two design, in every panel that has them."""
    four = reader.value("interaction", Any, [])
    labels = [arm.label for arm in arms]
    if not isinstance(four, list) or len(four) not in (0, 4):
        raise SettingError(f"interaction in {reader.source} must be four labels: both, A, B, neither (got {four!r})")
    for label in four:
        if label not in labels:
            raise SettingError(f"unknown arm {label!r} in interaction in {reader.source}{suggest(str(label), labels)}")
    found = []
    for panel in dict.fromkeys(arm.panel for arm in arms):
        places = {arm.label: i for i, arm in enumerate(arms) if arm.panel == panel}
        if four and all(label in places for label in four):
            found.append(tuple(places[label] for label in four))
    return tuple(found)
