"""Tiny training runs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gpgrad import config
from gpgrad.config.schema import Config
from gpgrad.learning import initial, program
from gpgrad.learning.compose import compose
from gpgrad.learning.program import Program
from gpgrad.methods import registry
from gpgrad.types import Clock, SeedState

TINY = {
    "agent.hidden": 8,
    "learner.batch_episodes": 4,
    "learner.target_every_episodes": 4,
    "replay.capacity": 16,
    "evaluation.episodes": 3,
    "evaluation.final_episodes": 5,
    "log.wandb": "disabled",
}
BOARD = {
    "env.height": 5,
    "env.width": 5,
    "env.n_agents": 3,
    "env.n_special": 1,
    "env.n_stags": 1,
    "env.n_hares": 1,
    "env.view_radius": 1,
    "env.episode_limit": 6,
    "decomposition.embed": 8,
}

MADE: dict[str, Program] = {}


def tiny(algo: str = "qmix", env: str = "pp_small", **overrides: Any) -> Config:
    """A configuration that compiles and runs in seconds; names with `__` for dots."""
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    board = BOARD if env.startswith("pp_") else {}
    accepted = registry.options("decomposition", changes.get("decomposition", _decomposition(algo)))
    board = {
        key: value
        for key, value in board.items()
        if not key.startswith("decomposition.") or key.removeprefix("decomposition.") in accepted
    }
    return config.load(env, algo, {**TINY, **board, **changes})


def _decomposition(algo: str) -> str:
    return config.algorithm(algo)["parts"]["decomposition"]


def programs(settings: Config) -> Program:
    """The program of a configuration, shared by all tests with these settings, so that it is compiled once."""
    key = config.dump(settings)
    if key not in MADE:
        MADE[key] = program.make_program(settings)
    return MADE[key]


def start(settings: Config, seeds: list[int], env=None) -> tuple[Program, Clock, SeedState]:
    """The program of a configuration with its initial states. env: a test's own environment, with its own program."""
    built = programs(settings) if env is None else program.make_program(settings, compose(settings, env))
    return built, initial.start_clock(), built.init(jnp.array(seeds, jnp.int32))


def one_seed(tree: Any, index: int) -> Any:
    """The leaves of one seed."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def options(settings: Config) -> list[str]:
    """All settings as words of the command line, but for the environment, the algorithm and plugins."""
    flat = {name: value for name, value in config.flat(settings).items() if name not in ("env", "algo", "plugin")}
    return [f"--{name}={config.text(value)}" for name, value in flat.items()]
