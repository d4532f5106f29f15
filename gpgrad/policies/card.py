"""The card of a team: what it is, how it was trained, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gpgrad
from gpgrad import config
from gpgrad.config.schema import Config
from gpgrad.runs import run_folder

Card = dict[str, Any]


def of_run(folder: Path, settings: Config, steps: int | None, best: bool) -> Card:
    """The card of one seed's team.

    world, algorithm, preset, seed; seeds: how many the run trains; t_max; env_steps: at which the team was taken; best:
    it is that of the best test; identity: the hash of the run's settings and numerics versions; numerics: those
    versions; gpgrad: the version that wrote the card. test_return and test_episodes: of the final test, or of the test
    at env_steps, None if there was none.
    """
    run = run_folder.read(folder)
    rows = [row for row in run.metrics if row["seed"] == settings.seed]
    at = steps if steps is not None else (rows[-1]["env_steps"] if rows else None)
    tested = [row for row in rows if steps is not None and row["env_steps"] == steps]
    final = [row for row in run.final if row["seed"] == settings.seed and steps is None]
    tests = settings.evaluation
    return {
        "world": settings.env.name,
        "algorithm": config.label(settings),
        "preset": settings.preset,
        "seed": settings.seed,
        "seeds": run.settings["seeds"],
        "t_max": settings.t_max,
        "env_steps": at,
        "best": best,
        "test_return": (final or tested or [{}])[-1].get("test_return"),
        "test_episodes": tests.final_episodes if final else tests.episodes if tested else None,
        "identity": run.identity,
        "numerics": dict(run.versions),
        "gpgrad": gpgrad.__version__,
    }


def shown(card: Mapping[str, Any]) -> str:
    """A card in one line."""
    result = card.get("test_return")
    score = f"test return {result:.4g} over {card['test_episodes']} episodes" if result is not None else "not tested"
    steps = f"{card['env_steps']:,} steps" if card.get("env_steps") is not None else "its last steps"
    return f"{card['algorithm']} on {card['world']}, seed {card['seed']}, {steps}, {score}, gpgrad {card['gpgrad']}"
