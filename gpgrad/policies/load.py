"""The team that a run trained, read from its folder; nothing in the folder is changed.

The other records of a team: `program.Actor` holds the trained arrays of all seeds as a run stores them, `rollout.Team`
the parameters of one team as jitted code acts with them, and `policy.Policy` is what users act with.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax

from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning import initial, iteration, program
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import Actor
from gpgrad.learning.rollout import Team
from gpgrad.runs import run_folder
from gpgrad.runs.run_folder import SEEDS, TEAM
from gpgrad.training import checkpoint, loop, warm_start
from gpgrad.types import Clock, PyTree, SeedState


class TrainedTeam(NamedTuple):
    """The team of one seed of a run.

    config: the run's, with this seed alone. parts: what the run is composed of. actor: the trained arrays, without the
    seed axis. steps: environment steps that the team has learned from, None if it was trained to the end.
    """

    seed: int
    config: Config
    parts: Parts
    actor: Actor
    steps: int | None

    @property
    def members(self) -> Team:
        """Every agent's own parameters, as acting takes them."""
        return iteration.team(self.parts, self.actor.params, self.actor.sharing)


class Snapshot(NamedTuple):
    """Everything that one seed of a run has learned.

    whole: it is that of a checkpoint. If not, only the team is known: the target network is a copy of it, and counts
    and the replay buffer are empty.
    """

    team: TrainedTeam
    clock: Clock
    state: SeedState
    whole: bool


def load_team(folder: Path, seed: int | None = None, finished: bool = False) -> TrainedTeam:
    """The team of one seed, by default the first: after training, or of the newest checkpoint of an unfinished run.

    finished: refuse unfinished runs. Raises SettingError for folders without a team, for seeds that the run does not
    train and for seeds that have diverged.
    """
    if finished:
        warm_start.finished(folder)
    config, seed = _seed(folder, seed)
    warm_start.require_sound(folder, [seed])
    if (folder / TEAM).is_dir():
        alone = _alone(config, seed)
        built = program.make_program(alone)
        actors = warm_start.load(folder, built, config.seeds)
        return TrainedTeam(seed, alone, built.parts, _pick(actors, seed - config.seed), None)
    found = _checkpoint(folder, config, seed)
    if found is None:
        raise SettingError(f"{folder} holds neither a trained team nor a whole checkpoint: nothing can be loaded")
    return found.team


def load_snapshot(folder: Path, seed: int | None = None) -> Snapshot:
    """All that one seed has learned, by default the first: of its newest checkpoint, else of the trained team.

    Raises SettingError as `load_team`.
    """
    config, seed = _seed(folder, seed)
    found = _checkpoint(folder, config, seed)
    if found is not None:
        return found
    team = load_team(folder, seed)
    small = dataclasses.replace(team.config.replay, capacity=team.config.learner.batch_episodes)  # nothing to replay
    init = initial.make_init(dataclasses.replace(team.config, replay=small), team.parts)
    state = jax.jit(init)(seed)
    target = jax.tree.map(lambda leaf: leaf, team.actor.params)
    state = state._replace(params=team.actor.params, target=target, sharing=team.actor.sharing)
    return Snapshot(team, initial.start_clock(), state, False)


def _seed(folder: Path, seed: int | None) -> tuple[Config, int]:
    """The run's configuration and the seed, by default the first. Raises SettingError for a seed that it has not."""
    run = run_folder.read(folder)
    seed = run.seeds[0] if seed is None else seed
    if seed not in run.seeds:
        raise SettingError(f"seed must be one that {folder} trained, {run.seeds[0]} to {run.seeds[-1]} (got {seed})")
    return run.config, seed


def _alone(config: Config, seed: int) -> Config:
    return dataclasses.replace(config, seed=seed, seeds=1, devices=1)


def _checkpoint(folder: Path, config: Config, seed: int) -> Snapshot | None:
    """The newest whole checkpoint with the seed: of its own folder, or of all seeds together."""
    own, alone = folder / SEEDS / str(seed), _alone(config, seed)
    place, shape = (own, alone) if own.is_dir() else (folder, dataclasses.replace(config, devices=1))
    where = next((path for path in checkpoint.found(place) if checkpoint.is_whole(path)), None)
    if where is None:
        return None
    built = program.make_program(shape)
    template = jax.eval_shape(lambda: loop.start(shape, built))
    position = warm_start.fitting(folder, lambda: checkpoint.read(where, template))
    state = _pick(position.states, seed - shape.seed)
    team = TrainedTeam(seed, alone, built.parts, program.actors(state), int(state.env_steps))
    return Snapshot(team, position.clock, state, True)


def _pick(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)
