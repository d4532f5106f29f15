"""`occupancy`: how full GPVD's buckets are."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from gpgrad.cli.arguments import file_to_write, finished_run_of, options, path_of
from gpgrad.errors import SettingError

USAGE = """\
  occupancy --env NAME [--preset NAME] | RUN [--episodes N] [--epsilon E] [--json FILE] [--picture FILE]
                                                      how full GPVD's buckets are in random play or a run's team's"""
OPTIONS = {
    "env NAME": "the environment of random play, by default pp_p2",
    "preset NAME": "training preset of random play",
    "episodes N": "episodes, by default 256; a multiple of learner.batch_episodes",
    "epsilon E": "probability of random actions, by default 1 without and 0.05 with RUN",
    "json FILE": "write the rows as JSON",
    "picture FILE": "draw the shares; needs matplotlib",
}


def main(arguments: Sequence[str]) -> int:
    """How full the buckets of state codes are, in random play or with the team of a finished run's first seed."""
    folder = path_of(arguments[0]) if arguments and not arguments[0].startswith("--") else None
    given = options(arguments[1:] if folder else arguments)
    from gpgrad import config, plots
    from gpgrad.config import validate

    numbers = {"episodes": "256", "epsilon": "1.0" if folder is None else "0.05"}
    numbers |= {name: given.pop(name) for name in numbers if name in given}
    file = file_to_write(given.pop("json")) if "json" in given else None
    drawn = path_of(given.pop("picture")) if "picture" in given else None
    episodes = validate.coerce(numbers["episodes"], int, "--episodes")
    eps = validate.coerce(numbers["epsilon"], float, "--epsilon")
    if drawn:
        plots.require()  # rather now than after the play
    if not 0 <= eps <= 1:
        raise SettingError(f"--epsilon must be between 0 and 1 (got {eps})")
    if folder and given:
        known = "--episodes, --epsilon, --json, --picture"
        raise SettingError(f"--{next(iter(given))} cannot be changed for a run; options are {known}")
    if folder:
        finished_run_of(arguments[0])
    from gpgrad.training import warm_start

    chosen = warm_start.finished(folder) if folder else config.load(given.pop("env", "pp_p2"), overrides=given)
    batch = chosen.learner.batch_episodes
    if episodes < batch or episodes % batch:
        raise SettingError(f"--episodes must be a multiple of learner.batch_episodes = {batch} (got {episodes})")
    import jax
    from rich.console import Console
    from rich.table import Table

    from gpgrad.analysis import occupancy as buckets
    from gpgrad.envs import checking
    from gpgrad.learning.program import make_program
    from gpgrad.policies.load import load_team

    checking.refuse_named(chosen.env.name, chosen.env.options)
    program, key = make_program(chosen), jax.random.key(chosen.seed)
    actor = buckets.untrained(chosen, program.parts)
    if folder:
        actor = load_team(folder, finished=True).actor
    rows = buckets.table(buckets.play(program.parts, actor, key, episodes, batch, eps), key)
    who = f"the team of {folder}" if folder else "random play"
    names = [f"{g}: shared, buckets, largest" for g in buckets.PREPROCESSING]
    shown = Table("k", *names, title=f"{chosen.env.name}, {who}, {episodes} episodes in batches of {batch}")
    for k in buckets.BITS:
        cells = [row for row in rows if row["k"] == k]
        texts = (f"{c['shared']:.1%}, {c['buckets']:.0f}, {c['largest']:.1%}" for c in cells)
        shown.add_row(str(k), *texts)
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
    if file:
        file.write_text(json.dumps(rows, indent=2))
    if drawn:
        stem = drawn.with_suffix("")
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path in [*plots.save(plots.draw_occupancy(rows), stem), plots.write_occupancy(rows, stem)]:
            print(path)
    return 0
