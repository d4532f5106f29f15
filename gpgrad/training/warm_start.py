"""Trained teams of finished runs: reading them, moving them to another environment, training on from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp

from gpgrad.config import parse, seal
from gpgrad.config.schema import Config
from gpgrad.envs.api import roles_of
from gpgrad.errors import SettingError
from gpgrad.learning import multiprocess
from gpgrad.learning.iteration import stream
from gpgrad.learning.learner import Parts
from gpgrad.learning.program import Actor, Program, actors, make_program
from gpgrad.runs import divergence, logs
from gpgrad.runs.run_folder import SEEDS
from gpgrad.training import checkpoint
from gpgrad.types import Params, Purpose, PyTree, SeedState

T = TypeVar("T")


def finished(folder: Path) -> Config:
    """The settings of a finished run. Raises SettingError for any other folder."""
    if not os.path.isdir(folder / "team"):
        raise SettingError(f"{folder} holds no finished run: it must have config.yaml and team")
    config, lost = parse(folder / "config.yaml"), divergence.seeds(folder)
    if len(lost) == config.seeds:
        raise SettingError(f"all seeds of the run in {folder} have diverged: there is no team to load")
    return config


def require_sound(folder: Path, seeds: Sequence[int]) -> None:
    """Raise SettingError where one of these seeds of a run has diverged: its parameters are NaN."""
    lost = [seed for seed in divergence.seeds(folder) if seed in seeds]
    if lost:
        raise SettingError(f"the run in {folder} has {divergence.short(lost)}: its parameters must be finite")


def load(folder: Path, program: Program, seeds: int) -> Actor:
    """The teams of a finished run. Raises SettingError where they do not fit."""
    return fitting(folder, lambda: checkpoint.load_team(folder, program, seeds))


def fitting(folder: Path, read: Callable[[], T]) -> T:
    """What `read` gives of a run's arrays. Raises SettingError where they are not those of its settings."""
    try:
        return read()
    except SettingError:
        raise
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise SettingError(f"what {folder} holds does not fit its config.yaml or is damaged: {problem}") from None


def load_into(folder: Path, program: Program, seeds: int) -> Actor:
    """The teams of a finished run in the environment of another program, with what that environment draws per seed.

    Raises SettingError, which names the first array whose shape differs.
    """
    config = finished(folder)
    source = make_program(dataclasses.replace(config, devices=1))
    check_fit(folder, source, program)
    team = load(folder, source, seeds)
    return team._replace(env_params=jax.vmap(lambda key: world_of(program.parts, key))(team.key))


def world_of(parts: Parts, key: jax.Array) -> PyTree:
    """What a seed's environment draws once, at the start of a run."""
    return parts.env.params(stream(key, Purpose.WORLD))


def check_start(config: Config, program: Program) -> None:
    """Raise SettingError unless the run that `init_from` names has a team for every seed, of the shapes needed."""
    if config.init_from is None:
        return
    if multiprocess.several():
        raise SettingError("init_from must not be set where several processes share the seeds")
    folder = Path(config.init_from)
    source = finished(folder)
    rows = _rows(config, source)
    if rows is None:
        there = f"{source.seed} to {source.seed + source.seeds - 1}"
        raise SettingError(
            f"the run of init_from must have one team, or one for each of the seeds "
            f"{config.seed} to {config.seed + config.seeds - 1} (got seeds {there} in {folder})"
        )
    require_sound(folder, [source.seed + row for row in rows])
    check_fit(folder, make_program(dataclasses.replace(source, devices=1)), program)


def begun(folder: Path) -> bool:
    """Whether every program of a run has a checkpoint, which holds all that it took from the teams it began with."""
    separate = sorted((folder / SEEDS).glob("*"))
    config = parse(folder / "config.yaml")
    parts = separate if len(separate) == config.seeds else [folder]
    return all(checkpoint.found(part) or (part / "team").is_dir() for part in parts)


def located(config: Config, folder: Path) -> Config:
    """The settings of a run that exists, with `init_from` where its teams are found now.

    Its path may be relative to where the run was begun. Raises SettingError where the run still needs the teams and
    they are gone, or are others than those it began with.
    """
    source = logs.read_manifest(folder).get("source")
    if config.init_from is None or source is None or begun(folder):
        return config
    places = [place for place in (Path(config.init_from), Path(source["folder"])) if (place / "team").is_dir()]
    if not places:
        raise SettingError(
            f"the run in {folder} starts from the team in {source['folder']}, which is gone, and has no checkpoint yet"
        )
    for place in places:
        if seal.team_content(place) == source["content"]:
            return dataclasses.replace(config, init_from=str(place))
    raise SettingError(f"the team in {places[0]} has changed since the run in {folder} began, which starts from it")


def continued(config: Config, program: Program, states: SeedState) -> SeedState:
    """A run's first states with the teams of the run that `init_from` names, each that of its seed.

    Which parameters are whose stays; what schedules count, the optimiser's memory and the replay begin anew.
    """
    folder = Path(config.init_from or "")
    source = finished(folder)
    team = load(folder, make_program(dataclasses.replace(source, devices=1)), source.seeds)
    rows = jnp.asarray(_rows(config, source))
    return begin_again(program.parts, states, team.params, team.sharing, rows)


def begin_again(parts: Parts, states: SeedState, params: Params, sharing: PyTree, rows: jax.Array) -> SeedState:
    """First states [S] with the teams at `rows` int32 [S] of others [R]: their parameters and who shares which."""
    params, sharing = jax.tree.map(lambda leaf: leaf[rows], (params, sharing))
    count = rows.shape[0]  # passed to vmap, since a scheme without a state has no leaf with that axis
    sharing = jax.vmap(parts.sharing.restart, axis_size=count)(sharing)
    if roles := roles_of(parts.env):

        def set_roles(own: PyTree, world: PyTree) -> PyTree:
            return parts.sharing.set_roles(own, roles(world))

        sharing = jax.vmap(set_roles, axis_size=count)(sharing, states.env_params)
    return states._replace(params=params, target=jax.tree.map(jnp.copy, params), sharing=sharing)


def _rows(config: Config, source: Config) -> list[int] | None:
    """Where the team of each seed stands among the source's; None if one has none. A single team is everybody's."""
    if source.seeds == 1:
        return [0] * config.seeds
    rows = [seed - source.seed for seed in range(config.seed, config.seed + config.seeds)]
    return rows if rows[0] >= 0 and rows[-1] < source.seeds else None


def check_fit(folder: Path, source: Program, program: Program) -> None:
    """Raise SettingError for the first array that the two programs' teams do not have in common."""
    have, wanted = _shapes(source), _shapes(program)
    for name in [*wanted, *have]:
        one, other = have.get(name), wanted.get(name)
        if one != other:
            raise SettingError(
                f"the team in {folder} does not fit here: {name} must be {other or 'absent'} (got {one or 'none'})"
            )


def _shapes(program: Program) -> dict[str, str]:
    """Every trained array of one seed: its path, and its dtype and shape for people."""
    team = jax.eval_shape(lambda seeds: actors(program.init(seeds)), jax.ShapeDtypeStruct((1,), jnp.int32))
    leaves = jax.tree.leaves_with_path({"params": team.params, "sharing": team.sharing})
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype} {list(leaf.shape[1:])}"
        for path, leaf in leaves
    }
