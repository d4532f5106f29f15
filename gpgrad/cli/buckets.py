"""`buckets`: which joint actions GPVD protects in a run, and which interfere with them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gpgrad.cli.arguments import OUTPUT, RUN, Number
from gpgrad.cli.command import command
from gpgrad.errors import SettingError


@command(
    "buckets",
    "joint actions that GPVD protects, and those that interfere",
    needs="the folder of a run, as in: gpgrad buckets runs/NAME",
)
@click.argument("folder", metavar="RUN", type=RUN)
@click.option("--buckets", "n_buckets", type=Number(int, 1), default=2, metavar="N", help="buckets to print")
@click.option("--members", "n_members", type=Number(int, 1), default=3, metavar="N", help="transitions of each bucket")
@click.option("--episodes", type=Number(int, 1), metavar="N", help="episodes to play, by default those of a batch")
@click.option(
    "--epsilon", "eps", type=Number(float, 0, 1), default=0.05, metavar="E", help="probability of random actions"
)
@click.option("--seed", type=Number(int), metavar="N", help="which seed, by default the first")
@click.option("--json", "file", type=OUTPUT, metavar="FILE", help="write the buckets as JSON")
@click.option("--picture", type=OUTPUT, metavar="FILE", help="draw the buckets; needs matplotlib")
def main(
    folder: Path,
    n_buckets: int,
    n_members: int,
    episodes: int | None,
    eps: float,
    seed: int | None,
    file: Path | None,
    picture: Path | None,
) -> int:
    """Play a batch with a run's team, and print the buckets in which most transitions interfere."""
    import jax

    from gpgrad import plots
    from gpgrad.analysis import gpvd_buckets
    from gpgrad.policies.load import load_snapshot

    if picture:
        plots.require()
    learned = load_snapshot(folder, seed)
    team = learned.team
    episodes = episodes or team.config.learner.batch_episodes
    key = jax.random.key(team.seed)
    dump = gpvd_buckets.find(team.parts, learned.clock, learned.state, key, episodes, eps, n_buckets, n_members)
    rows = gpvd_buckets.as_rows(dump)
    if not rows:
        raise SettingError(
            f"no transitions interfere in {episodes} episodes of {folder}; try more --episodes or --epsilon"
        )
    steps = f"after {int(learned.state.env_steps):,} steps" if learned.whole else "of the trained team"
    print(f"{folder}, seed {team.seed}, {steps}: {episodes} episodes, epsilon {eps:g}")
    for number, bucket in enumerate(rows, 1):
        print(f"bucket {number}, met {bucket['visits']} times")
        for row in bucket["transitions"]:
            print(f"  {row['kind']:11} TD error {row['td_error']:+.3f}, step {row['step']}: {row['actions']}")
    if file:
        file.write_text(json.dumps(rows, indent=1))
    if picture:
        stem = picture.with_suffix("")
        for path in gpvd_buckets.picture(team.parts.env, learned.state.env_params, dump, stem):
            print(path)
    return 0
