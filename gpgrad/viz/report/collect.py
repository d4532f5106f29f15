"""What runs say, as one JSON document for a page: curves with their bands, tables, settings, commands, versions.

A run's folder is all that is read. Runs whose seeds do the same are one entry: their seeds are put together. Imports no
jax.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpgrad import config, plots
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.methods import registry
from gpgrad.runs import divergence, method_activity, provenance, run_folder, stats
from gpgrad.runs.logs import Row
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.stats import Curve

FIRST = ("test_return", "train_return")  # of metrics, in this order before all others
NOT_CURVES = ("seed", "env_steps")
ACTED = {
    check.metric: check.words for check in registry.activity_checks()
} | {  # what a method did in the end, by its name in rows
    "share_protected": "share of buckets protected",
    "futile": "neurons futile, %",
    "groups": "groups",
    "effective_params": "agent parameters in use",
}
DIGITS = 6


class Entry(NamedTuple):
    """Runs of the same settings. name: for people, unique. rows: by seed, in order of steps."""

    name: str
    config: Config
    runs: list[RunFolder]
    rows: dict[int, list[Row]]
    final: dict[int, Row]


def collect(folders: Sequence[Path]) -> list[Entry]:
    """Read runs, finished or not; one that has a seed of an earlier one again is an entry of its own.

    Raises SettingError for folders that hold no run with rows.
    """
    entries: list[Entry] = []
    for folder in dict.fromkeys(Path(folder) for folder in folders):
        run = run_folder.read(folder)
        rows = method_activity.by_seed(run.metrics)
        if not rows:
            raise SettingError(f"{folder} has no test in metrics.jsonl yet: a report needs at least one")
        final = {row["seed"]: row for row in run.final if row["seed"] not in run.diverged}
        name = config.identity(run.config)
        same = (e for e in entries if config.identity(e.config) == name and not e.rows.keys() & rows.keys())
        if own := next(same, None):
            own.runs.append(run)
            own.rows.update(rows)
            own.final.update(final)
        else:
            entries.append(Entry("", run.config, [run], rows, final))
    return _named(entries)


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """Each with the algorithm's name, and what it differs in from others of that name in its world."""
    kin: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        kin.setdefault((entry.config.env.name, config.label(entry.config)), []).append(entry)
    named = []
    for entry in entries:
        label = config.label(entry.config)
        others = kin[entry.config.env.name, label]
        if len(others) > 1:
            differing = differences([other.config for other in others])
            own = [str(values[others.index(entry)]) for values in differing.values()]
            pairs = [f"{name.rpartition('.')[2]} {value}" for name, value in zip(differing, own, strict=True)]
            label = ", ".join([label, *pairs[:2]]) if pairs else label
            if len(pairs) > 2 or not pairs:
                label = f"{label} ({entry.runs[0].folder.name})"
        if lost := [seed for run in entry.runs for seed in run.diverged]:
            label = f"{label}, {divergence.short(lost)}"
        named.append(entry._replace(name=label))
    return named


def differences(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Settings that are not the same in all: the value of each, None where it is not a setting."""
    flats = [config.flat(each) for each in configs]
    names = [name for name in dict.fromkeys(n for flat in flats for n in flat) if not name.startswith(config.ASIDE)]
    rows = {name: [flat.get(name) for flat in flats] for name in names if name not in ("seeds", "seeds_mode")}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def document(folders: Sequence[Path]) -> dict[str, Any]:
    """Everything on the page. Raises SettingError as `collect`."""
    entries = collect(folders)
    worlds = list(dict.fromkeys(entry.config.env.name for entry in entries))
    metrics = _metrics(entries)
    return {
        "title": "gpgrad: " + ", ".join(worlds),
        "worlds": worlds,
        "metrics": metrics,
        "acted": ACTED,
        "entries": [_entry(entry, metrics) for entry in entries],
        "differences": _plain(differences([entry.config for entry in entries])),
        "settings": [_plain(config.flat(entry.config)) for entry in entries],
        "versions": _versions(entries),
    }


def _metrics(entries: Sequence[Entry]) -> list[str]:
    """Names of what can be drawn by steps: numbers in rows of any run, the returns first."""
    names: dict[str, None] = {}
    for row in (row for entry in entries for rows in entry.rows.values() for row in (rows[0], rows[-1])):
        names |= {name: None for name, value in row.items() if _is_number(value) and name not in NOT_CURVES}
    return [name for name in FIRST if name in names] + sorted(name for name in names if name not in FIRST)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _entry(entry: Entry, metrics: Sequence[str]) -> dict[str, Any]:
    last = {seed: rows[-1] for seed, rows in entry.rows.items() if rows}
    return {
        "name": entry.name,
        "world": entry.config.env.name,
        "preset": entry.config.preset,
        "runs": [str(run.folder) for run in entry.runs],
        "seeds": sorted(entry.rows),
        "finished": sorted(entry.final),
        "steps": max((row["env_steps"] for row in last.values()), default=0),
        "t_max": entry.config.t_max,
        "minutes": _minutes(entry),
        "final": _final([row["test_return"] for row in entry.final.values() if _is_number(row.get("test_return"))]),
        "acted": {name: _acted(last.values(), name) for name in ACTED},
        "lacking": method_activity.sentences(entry.config, entry.rows),
        "curves": {name: curve for name in metrics if (curve := _curve(entry, name)) is not None},
        "commands": [_command(run.config) for run in entry.runs],
    }


def _final(values: Sequence[float]) -> dict[str, Any] | None:
    """Statistics of final returns over seeds."""
    if not values:
        return None
    robust = stats.iqm_interval([values], np.random.default_rng(0))
    numbers = {"mean": stats.mean_interval(values)._asdict(), "median": float(np.median(values)), "values": [*values]}
    return _plain({**numbers, "iqm": robust._asdict()})


def _acted(rows: Any, name: str) -> float | None:
    """A number of the last tests, a mean over seeds; of an array of groups, how many there are, a mean over neurons."""
    values = [row[name] for row in rows if row.get(name) is not None]
    if name == "groups":
        values = [float(np.mean([len(set(line)) for line in np.atleast_2d(value).tolist()])) for value in values]
    return _plain(float(np.mean(values))) if values else None


def _minutes(entry: Entry) -> float | None:
    """Minutes to the last test, of the seed that took longest in each run, added up over runs."""
    longest = []
    for run in entry.runs:
        seconds = [row["seconds"] for row in run.timing]
        if seconds:
            longest.append(max(seconds))
    return _plain(sum(longest) / 60) if longest else None


def _curve(entry: Entry, name: str) -> dict[str, Any] | None:
    """A number by steps: each seed's, and over seeds the mean with Student's interval and the IQM with a bootstrap's.

    A seed counts from its second test on; rows in which it is no number are left out.
    """
    seeds = {}
    for seed, rows in sorted(entry.rows.items()):
        points = [(row["env_steps"], row[name]) for row in rows if _is_number(row.get(name))]
        if len(points) > 1 and all(b[0] > a[0] for a, b in itertools.pairwise(points)):
            seeds[seed] = Curve(*np.array(points, float).T)
    if not seeds:
        return None
    found: dict[str, Any] = {
        "seeds": {str(seed): [curve.steps.tolist(), curve.returns.tolist()] for seed, curve in seeds.items()}
    }
    for centre in ("mean", "iqm"):
        try:
            drawn = plots.band(seeds, centre)
        except ValueError:  # seeds that have nothing in common have no mean
            continue
        found[centre] = [part.tolist() for part in drawn]
    return _plain(found)


def _command(settings: Config) -> str:
    """The command that trains the same again: the settings that presets do not give."""
    chosen = {"env": settings.env.name, "algo": settings.algo, "preset": settings.preset}
    parts = {kind: getattr(settings, kind).name for kind in registry.KINDS}
    usual = config.flat(config.load(settings.env.name, settings.algo, {"preset": settings.preset}))
    if any(usual[kind] != name for kind, name in parts.items()):
        chosen |= parts
        usual = config.flat(config.load(settings.env.name, settings.algo, {"preset": settings.preset, **parts}))
    aside = ("log.", "checkpoint.", "devices", "shard", "seeds_mode", "learner.stop_on_nan")
    changed = {
        name: value
        for name, value in config.flat(settings).items()
        if name not in chosen and not name.startswith(aside) and usual.get(name) != value
    }
    words = [f"--{name} {shlex.quote(config.text(value))}" for name, value in {**chosen, **changed}.items()]
    return " ".join(["gpgrad train", *words])


def _versions(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """What the runs ran on: every value that a field of their manifests has."""
    # A run without a readable manifest is listed as unknown.
    found = [provenance.compared(run.manifest) for entry in entries for run in entry.runs]
    names = dict.fromkeys(name for manifest in found for name in manifest)
    return {name: sorted({_listed(manifest.get(name, "unknown")) for manifest in found}) for name in names}


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    """As JSON: numbers with six digits, what is not finite as null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
