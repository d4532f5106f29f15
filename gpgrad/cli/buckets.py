"""`buckets`: which joint actions GPVD protects in a run, and which interfere with them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gpgrad.cli.arguments import file_to_write, options, run_of
from gpgrad.errors import SettingError, suggest

USAGE = """\
  buckets RUN [--buckets N] [--members N] [--episodes N] [--epsilon E] [--seed N] [--json FILE] [--picture FILE]
                                                      joint actions that GPVD protects, and those that interfere"""
OPTIONS = {
    "buckets N": "buckets to print, by default 2",
    "members N": "transitions of each bucket, by default 3",
    "episodes N": "episodes to play, by default those of a batch",
    "epsilon E": "probability of random actions, by default 0.05",
    "seed N": "which seed, by default the first",
    "json FILE": "write the buckets as JSON",
    "picture FILE": "draw the buckets; needs matplotlib",
}
NUMBERS = {"buckets": "2", "members": "3", "episodes": "", "epsilon": "0.05", "seed": ""}


def main(arguments: Sequence[str]) -> int:
    """Play a batch with a run's team, and write the buckets in which most transitions interfere."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("buckets needs the folder of a run, as in: gpgrad buckets runs/NAME")
    given = options(arguments[1:])
    files = {name: file_to_write(given.pop(name)) if name in given else None for name in ("json", "picture")}
    for name in given:
        if name not in NUMBERS:
            raise SettingError(f"unknown option --{name}{suggest(name, [*NUMBERS, *files])}")
    from gpgrad.config import validate

    text = NUMBERS | given
    n_buckets, n_members = (validate.coerce(text[name], int, f"--{name}") for name in ("buckets", "members"))
    eps = validate.coerce(text["epsilon"], float, "--epsilon")
    episodes = validate.coerce(text["episodes"], int, "--episodes") if text["episodes"] else None
    for name, value in (("buckets", n_buckets), ("members", n_members), ("episodes", episodes)):
        if value is not None and value < 1:
            raise SettingError(f"--{name} must be at least 1 (got {value})")
    if not 0 <= eps <= 1:
        raise SettingError(f"--epsilon must be between 0 and 1 (got {eps})")
    folder = run_of(arguments[0])
    import jax

    from gpgrad import plots
    from gpgrad.analysis import gpvd_buckets
    from gpgrad.policies.load import load_snapshot

    if files["picture"]:
        plots.require()
    learned = load_snapshot(folder, validate.coerce(text["seed"], int, "--seed") if text["seed"] else None)
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
    if files["json"]:
        files["json"].write_text(json.dumps(rows, indent=1))
    if files["picture"]:
        stem = files["picture"].with_suffix("")
        for path in gpvd_buckets.picture(team.parts.env, learned.state.env_params, dump, stem):
            print(path)
    return 0
