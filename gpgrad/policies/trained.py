"""What a run's folder holds of one seed, to look at; nothing in it is changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax

from gpgrad import config
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning import initial, program
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import Actor
from gpgrad.runs.run_folder import SEEDS
from gpgrad.training import checkpoint, loop, warm_start
from gpgrad.types import Clock, PyTree, SeedState


class Trained(NamedTuple):
    """One seed of a run. config: with this seed alone. steps: environment steps it has learned from, None after the
    end. actor: without the seed axis.
    """

    seed: int
    config: Config
    parts: Parts
    actor: Actor
    steps: int | None


class Learned(NamedTuple):
    """Everything one seed of a run has learned. whole: as it was at a checkpoint; else the team alone is known, the
    target network is its copy and nothing has been counted.
    """

    seed: int
    config: Config
    parts: Parts
    clock: Clock
    state: SeedState
    whole: bool


def team_of(folder: Path, seed: int | None = None) -> Trained:
    """The team of one seed, by default the first: after training, or of the newest checkpoint of an unfinished run.

    Raises SettingError for folders that hold neither and seeds that the run does not have.
    """
    settings, seed = _seed(folder, seed)
    alone = _alone(settings, seed)
    warm_start.require_sound(folder, [seed])
    if (folder / "team").is_dir():
        built = program.make_program(alone)
        team = warm_start.load(folder, built, settings.seeds)
        return Trained(seed, alone, built.parts, _pick(team, seed - settings.seed), None)
    found = _checkpoint(folder, settings, seed)
    if found is None:
        raise SettingError(f"{folder} holds neither a trained team nor a whole checkpoint, expected a run that has one")
    actor = Actor(found.state.env_params, found.state.params, found.state.sharing, found.state.key)
    return Trained(seed, alone, found.parts, actor, int(found.state.env_steps))


def learned_of(folder: Path, seed: int | None = None) -> Learned:
    """All that one seed has learned, by default the first: of its newest checkpoint, else of the trained team.

    Raises SettingError as `team_of`.
    """
    settings, seed = _seed(folder, seed)
    found = _checkpoint(folder, settings, seed)
    if found is not None:
        return found
    told = team_of(folder, seed)
    small = dataclasses.replace(told.config.replay, capacity=told.config.learner.batch_episodes)  # nothing to replay
    init = initial.make_init(dataclasses.replace(told.config, replay=small), told.parts)
    state = jax.jit(init)(seed)
    target = jax.tree.map(lambda leaf: leaf, told.actor.params)
    state = state._replace(params=told.actor.params, target=target, sharing=told.actor.sharing)
    return Learned(seed, told.config, told.parts, initial.start_clock(), state, False)


def _seed(folder: Path, seed: int | None) -> tuple[Config, int]:
    """The run's settings and the seed, if it has it."""
    if not (folder / "config.yaml").is_file():
        raise SettingError(f"{folder} holds no run, expected a folder with config.yaml")
    settings = config.parse(folder / "config.yaml")
    last = settings.seed + settings.seeds - 1
    if seed is None:
        seed = settings.seed
    if not settings.seed <= seed <= last:
        raise SettingError(f"--seed is {seed}, expected one of the run's, {settings.seed} to {last}")
    return settings, seed


def _alone(settings: Config, seed: int) -> Config:
    return dataclasses.replace(settings, seed=seed, seeds=1, devices=1)


def _checkpoint(folder: Path, settings: Config, seed: int) -> Learned | None:
    """The newest whole checkpoint with the seed: of its own folder, or of all seeds together."""
    own = folder / SEEDS / str(seed)
    place, shape = (own, _alone(settings, seed)) if own.is_dir() else (folder, dataclasses.replace(settings, devices=1))
    where = next((path for path in checkpoint.found(place) if checkpoint.is_whole(path)), None)
    if where is None:
        return None
    built = program.make_program(shape)
    template = jax.eval_shape(lambda: loop.start(shape, built))
    position = warm_start.fitting(folder, lambda: checkpoint.read(where, template))
    state = _pick(position.states, seed - shape.seed)
    return Learned(seed, _alone(settings, seed), built.parts, position.clock, state, True)


def _pick(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)
