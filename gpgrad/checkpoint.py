"""Trained teams on disk, with orbax."""

from __future__ import annotations

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from gpgrad.program import Actor, Program
from gpgrad.types import PyTree


def _stored(actors: Actor) -> PyTree:
    """Keys are data of an abstract type; the numbers under them are what is stored."""
    return actors._replace(key=jax.random.key_data(actors.key))._asdict()


def save_team(folder: Path, actors: Actor) -> None:
    """Write the teams of all seeds."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / "team").resolve(), _stored(actors))


def load_team(folder: Path, program: Program, n_seeds: int) -> Actor:
    """Read the teams that `save_team` wrote, for a program made from the same settings."""
    seeds = jax.ShapeDtypeStruct((n_seeds,), jax.numpy.int32)
    shapes = jax.eval_shape(lambda s: _stored(_actors(program, s)), seeds)
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.restore((folder / "team").resolve(), shapes)
    return Actor(**{**stored, "key": jax.random.wrap_key_data(stored["key"])})


def _actors(program: Program, seeds: jax.Array) -> Actor:
    states = program.init(seeds)
    return Actor(states.env_params, states.params, states.sharing, states.key)
