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
from gpgrad.learning import initial, program
from gpgrad.policies import card, team_file
from gpgrad.policies.trained import TrainedTeam
from gpgrad.runs import run_folder
from gpgrad.runs.run_folder import SEEDS, TEAM
from gpgrad.training import best as best_team
from gpgrad.training import checkpoint, loop, warm_start
from gpgrad.types import Clock, PyTree, SeedState


class Snapshot(NamedTuple):
    """Everything that one seed of a run has learned.

    whole: it is that of a checkpoint. If not, only the team is known: the target network is a copy of it, and counts
    and the replay buffer are empty.
    """

    team: TrainedTeam
    clock: Clock
    state: SeedState
    whole: bool


def load_team(source: Path, seed: int | None = None, finished: bool = False, best: bool = False) -> TrainedTeam:
    """The team of one seed, by default the first: after training, or of the newest checkpoint of an unfinished run.

    source: a run's folder, or a file that `team_file.write` wrote. finished: refuse unfinished runs. best: the team
    of the seed's best test, which `checkpoint.keep_best` keeps. Raises SettingError for folders without a team, for
    seeds that the run does not train and for seeds that have diverged.
    """
    if source.is_file():
        return _of_file(source, seed, best)
    if finished and not best:
        warm_start.finished(source)
    config, seed = _seed(source, seed)
    alone = _alone(config, seed)
    if best:
        team = _best(source, config, seed)
    else:
        warm_start.require_sound(source, [seed])
        if (source / TEAM).is_dir():
            built = program.make_program(alone)
            actors = warm_start.load(source, built, config.seeds)
            team = TrainedTeam(seed, alone, built.parts, _pick(actors, seed - config.seed), None)
        elif found := _checkpoint(source, config, seed):
            team = found.team
        else:
            raise SettingError(f"{source} holds neither a trained team nor a whole checkpoint: nothing can be loaded")
    return team._replace(card=card.of_run(source, alone, team.steps, best))


def load_teams(source: Path, best: bool = False) -> list[TrainedTeam]:
    """The teams of all seeds, as `load_team`, without seeds that have diverged. Raises SettingError if none is left."""
    if source.is_file():
        return [load_team(source, best=best)]
    run = run_folder.read(source)
    seeds = [seed for seed in run.seeds if best or seed not in run.diverged]
    if not seeds:
        raise SettingError(f"all seeds of the run in {source} have diverged: there is no team to load")
    return [load_team(source, seed, best=best) for seed in seeds]


def _of_file(path: Path, seed: int | None, best: bool) -> TrainedTeam:
    team = team_file.read(path)
    if seed not in (None, team.seed):
        raise SettingError(f"seed must be {team.seed}, the only one in {path} (got {seed})")
    if best and not team.card.get("best"):
        raise SettingError(f"{path} has one team alone, which is not that of the best test; leave out --best")
    return team


def _best(folder: Path, config: Config, seed: int) -> TrainedTeam:
    """The team of a seed's best test."""
    own, alone = folder / SEEDS / str(seed), _alone(config, seed)
    place, seeds, first = (own, 1, seed) if (own / best_team.FOLDER).is_dir() else (folder, config.seeds, config.seed)
    tests = best_team.read(place)
    if seed not in tests or not (place / best_team.FOLDER).is_dir():
        raise SettingError(f"{folder} has no best team of seed {seed}: train with --checkpoint.keep_best true")
    built = program.make_program(alone)
    read = lambda: checkpoint.load_team(place, built, seeds, best_team.FOLDER)  # noqa: E731
    actors = warm_start.fitting(folder, read)
    return TrainedTeam(seed, alone, built.parts, _pick(actors, seed - first), tests[seed]["env_steps"])


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
