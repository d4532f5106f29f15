"""Training a run for more steps: a new run that starts from a checkpoint of another, with its rows until then."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from gpgrad.config import parse, validate
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning.compose import compose, example_view
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import actors
from gpgrad.runs import lock, logs, provenance
from gpgrad.runs.run_folder import SEEDS
from gpgrad.training import checkpoint, recorder, warm_start
from gpgrad.training.checkpoint import Position

LEFT_BEHIND = shutil.ignore_patterns(
    "config.yaml", "manifest.json", "final.jsonl", "diverged.jsonl", "team", "pictures", "wandb", lock.NAME, "*.draft"
)


def begin(folder: Path, t_max: int, log: dict[str, str], say: Callable[[str], None] = print) -> Path:
    """Make the folder of a run as that in `folder`, over `t_max` steps, to be resumed; the other stays as it is.

    log: a `name` and a `dir` for it, by default beside the other one. It ends as a run of `t_max` steps from the start
    would have ended, except that what a sharing scheme derives from the length of training (Kaleidoscope's last reset)
    follows the new one only from here on. Raises SettingError where the other run is trained now, is as long already,
    kept no checkpoint, or was trained with other numerics versions.
    """
    old = parse(folder / "config.yaml")
    if t_max <= old.t_max:
        raise SettingError(f"t_max must be more than the {old.t_max} of the run in {folder} (got {t_max})")
    provenance.check(folder, old)
    validate.check_name(log.get("name"))
    log_settings = dataclasses.replace(old.log, name=log.get("name"), dir=log.get("dir", str(folder.parent)))
    config = dataclasses.replace(old, t_max=t_max, log=log_settings)
    with lock.hold(folder / lock.NAME, f"the run in {folder}"):
        _require(folder, old)
        place = recorder.create_folder(config)
        shutil.copytree(folder, place, ignore=LEFT_BEHIND, dirs_exist_ok=True)
    for part in _parts(place):
        for late in (c for c in checkpoint.found(part) if not _before_the_end(c, part, old.t_max)):
            shutil.rmtree(late)
    _resize(place, old, config, say)
    earlier = logs.read_manifest(folder)
    recorder.describe_run(config, place, earlier.get("source"), earlier)
    say(f"{place} continues {folder}")
    return place


def _require(folder: Path, old: Config) -> None:
    """Every program of the run has a checkpoint in which all of its seeds still run."""
    for part in _parts(folder):
        if not any(checkpoint.is_whole(c) and _before_the_end(c, part, old.t_max) for c in checkpoint.found(part)):
            raise SettingError(
                f"{part} has no checkpoint from before its end to go on from: "
                "a run shorter than checkpoint.every_minutes writes none"
            )


def _parts(folder: Path) -> list[Path]:
    """The folders that programs have trained in: those of single seeds, or the run's own."""
    return sorted((folder / SEEDS).glob("*")) or [folder]


def _before_the_end(place: Path, part: Path, t_max: int) -> bool:
    """Whether no seed had its steps then: a seed that has them is no longer tested, so its rows would be missing."""
    try:
        size = json.loads((place / checkpoint.NOTES).read_text())["metrics"]
    except (OSError, ValueError, KeyError):
        return False
    rows = (part / "metrics.jsonl").read_bytes()[:size].splitlines()
    return all(json.loads(row)["env_steps"] < t_max for row in rows)


def _resize(place: Path, old: Config, new: Config, say: Callable[[str], None]) -> None:
    """Give the weighting's state in the newest checkpoints the shapes of a run of the new length."""
    longer = compose(new)
    shorter = compose(old, longer.env)
    state = example_view(longer.env).state
    shapes = [jax.eval_shape(parts.weighting.init, jax.random.key(0), state) for parts in (shorter, longer)]
    if jax.tree.map(jnp.shape, shapes[0]) == jax.tree.map(jnp.shape, shapes[1]):
        return
    for part in _parts(place):
        template = _template(old, shorter, old.seeds if part == place else 1)
        stored = warm_start.fitting(part, lambda part=part, template=template: checkpoint.newest(part, template, say))
        if stored is not None:
            position, notes = stored
            weighting = jax.vmap(longer.weighting.resize)(position.states.weighting)
            position = position._replace(states=position.states._replace(weighting=weighting))
            checkpoint.save(part, position, notes, keep=1)  # older ones have the old shapes


def _template(config: Config, parts: Parts, seeds: int) -> Position:
    """The shapes of a checkpoint."""

    def position() -> Position:
        states = jax.vmap(make_init(config, parts))(jnp.arange(seeds, dtype=jnp.int32))
        return Position(start_clock(), states, actors(states), jnp.zeros(seeds, bool), jnp.int32(0))

    return jax.eval_shape(position)
