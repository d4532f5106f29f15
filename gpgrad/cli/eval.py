"""`eval`: test the team of a finished run on fresh episodes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gpgrad.cli.arguments import finished_run_of, options
from gpgrad.errors import SettingError, suggest

USAGE = """\
  eval RUN [--episodes N] [--stream N] [--env.SETTING VALUE ...]
                                                      test the team of a finished run on fresh episodes"""


def main(arguments: Sequence[str]) -> int:
    """Test a finished run's team on episodes it has not met, in its world or a changed one; print a row per seed.

    Seeds that have diverged have no team to test.
    """
    import dataclasses

    if not arguments or arguments[0].startswith("--"):
        raise SettingError("eval needs the folder of a finished run, as in: gpgrad eval runs/NAME")
    folder = finished_run_of(arguments[0])
    given = options(arguments[1:])
    changes = {name: given.pop(name) for name in list(given) if name.startswith("env.")}
    from gpgrad import config
    from gpgrad.config import validate
    from gpgrad.learning.program import make_program
    from gpgrad.runs import divergence
    from gpgrad.training import warm_start
    from gpgrad.training.loop import test_rows

    numbers = {"episodes": "200", "stream": "1"} | given
    for name in given:
        if name not in ("episodes", "stream"):
            raise SettingError(f"unknown option --{name}{suggest(name, ['episodes', 'stream', 'env.SETTING'])}")
    episodes, stream = (validate.coerce(numbers[name], int, f"--{name}") for name in ("episodes", "stream"))
    if episodes < 1 or not 0 <= stream <= validate.LARGEST:
        raise SettingError(f"--episodes is {episodes} and --stream is {stream}, expected 1 or more, and 0 or more")
    chosen = config.override(warm_start.finished(folder), changes)
    tests = dataclasses.replace(chosen.evaluation, final_episodes=episodes)
    chosen = dataclasses.replace(chosen, evaluation=tests, devices=1)
    program = make_program(chosen)
    team = warm_start.load_into(folder, program, chosen.seeds)
    lost = divergence.seeds(folder)
    for row in test_rows(chosen, program.final(team, stream)):
        if row["seed"] not in lost:
            print(json.dumps(row))
    return 0
