"""`occupancy`: how full GPVD's buckets are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpgrad.cli.arguments import ENV, FOLDER, OUTPUT, PATH, Number, finished_run_of
from gpgrad.cli.command import command
from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from gpgrad.config.schema import Config


@command("occupancy", "how full GPVD's buckets are in random play or a run's team's", passes=("",))
@click.argument("folder", required=False, metavar="[RUN]", type=FOLDER)
@click.option("--env", **ENV, help="the environment of random play, by default pp_p2")
@click.option(
    "--episodes",
    type=Number(int),
    default=256,
    metavar="N",
    help="episodes to play, a multiple of learner.batch_episodes",
)
@click.option(
    "--epsilon",
    "eps",
    type=Number(float, 0, 1),
    metavar="E",
    help="probability of random actions, by default 1 without and 0.05 with RUN",
)
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write the rows as JSON")
@click.option("--picture", "drawn", type=PATH, metavar="FILE", help="draw the shares; needs matplotlib")
def main(
    folder: Path | None,
    env: str | None,
    episodes: int,
    eps: float | None,
    file: Path | None,
    drawn: Path | None,
    settings: dict[str, str],
) -> int:
    """Print how full the buckets of state codes are, in random play or with the team of a finished run's first seed.

    Further options are the settings of gpgrad train, for random play.
    """
    from gpgrad import plots

    if env is not None:
        settings = {"env": env, **settings}
    if eps is None:
        eps = 1.0 if folder is None else 0.05
    if drawn:
        plots.require()  # rather now than after the play
    config = _config(folder, settings)
    batch = config.learner.batch_episodes
    if episodes < batch or episodes % batch:
        raise SettingError(f"--episodes must be a multiple of learner.batch_episodes = {batch} (got {episodes})")
    rows = _play(folder, config, episodes, eps)
    who = f"the team of {folder}" if folder else "random play"
    _print_table(rows, f"{config.env.name}, {who}, {episodes} episodes in batches of {batch}")
    if file:
        file.write_text(json.dumps(rows, indent=2))
    if drawn:
        stem = drawn.with_suffix("")
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path in [*plots.save(plots.draw_occupancy(rows), stem), plots.write_occupancy(rows, stem)]:
            print(path)
    return 0


def _config(folder: Path | None, settings: dict[str, str]) -> Config:
    """The settings of a finished run, which no option may change, or those given for random play."""
    from gpgrad import config

    if folder and settings:
        known = "--episodes, --epsilon, --json, --picture"
        raise SettingError(f"--{next(iter(settings))} cannot be changed for a run; options are {known}")
    if folder:
        finished_run_of(str(folder))
    from gpgrad.training import warm_start

    return warm_start.finished(folder) if folder else config.load(settings.pop("env", "pp_p2"), overrides=settings)


def _play(folder: Path | None, config: Config, episodes: int, eps: float) -> list[dict[str, Any]]:
    """The rows of `buckets.table`: of the run's team or, without a folder, of random play."""
    import jax

    from gpgrad.analysis import occupancy as buckets
    from gpgrad.envs import checking
    from gpgrad.learning.program import make_program
    from gpgrad.policies.load import load_team

    if folder is None:
        checking.refuse_named(config.env.name, config.env.options)  # a run's was checked before its training
    program, key = make_program(config), jax.random.key(config.seed)
    actor = buckets.untrained(config, program.parts)
    if folder:
        actor = load_team(folder, finished=True).actor
    return buckets.table(buckets.play(program.parts, actor, key, episodes, config.learner.batch_episodes, eps), key)


def _print_table(rows: list[dict[str, Any]], title: str) -> None:
    """One line for each code length, one column for each preprocessing."""
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import occupancy as buckets

    names = [f"{g}: shared, buckets, largest" for g in buckets.PREPROCESSING]
    shown = Table("k", *names, title=title)
    for k in buckets.BITS:
        cells = [row for row in rows if row["k"] == k]
        texts = (f"{c['shared']:.1%}, {c['buckets']:.0f}, {c['largest']:.1%}" for c in cells)
        shown.add_row(str(k), *texts)
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
