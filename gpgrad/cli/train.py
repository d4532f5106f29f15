"""`train`: train a team, or go on with an interrupted run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gpgrad.cli.arguments import CHOICES, help_text, options, run_of
from gpgrad.errors import SettingError

USAGE = """\
  train --env NAME --algo NAME [--preset NAME] [--decomposition NAME] [--sharing NAME] [--weighting NAME]
        [--seeds N] [--seeds-mode auto|vmap|sequential|process] [--GROUP.SETTING VALUE ...]
        [--plugin MODULE]                             train, with tests, logs and a saved team
  train --resume RUN                                  go on with an interrupted run
  train --extend RUN --t-max N [--log.name NAME] [--log.dir FOLDER]
                                                      train a run further, as a new one that begins where it stood
  train ... --hosts auto | --coordinator HOST:PORT --processes N --process I
                                                      one of several processes that share the seeds of a run"""

OPTIONS = {
    "resume RUN": "go on with an interrupted run, with its own settings",
    "extend RUN": "train a finished run further, as a new run; needs --t-max",
    "hosts auto": "become one of several processes, as the cluster describes them",
    "coordinator HOST:PORT": "address of process 0; needs --processes and --process",
    "processes N": "how many processes share the seeds of the run",
    "process I": "which of them this is, from 0",
}
HOSTS = ("hosts", "coordinator", "processes", "process")


def main(arguments: Sequence[str]) -> int:
    """Train and report where the results are. Without arguments, print what training would do and how to begin."""
    if not arguments:
        return introduce()
    wants_help = any(token in ("-h", "--help") for token in arguments)
    given = options([token for token in arguments if token not in ("-h", "--help")])
    told = {name: given.pop(name) for name in HOSTS if name in given}
    if not told or wants_help:
        return begin(given, wants_help)
    join(told)
    from gpgrad.learning import multiprocess

    with multiprocess.together():
        return begin(given, False)


def introduce() -> int:
    """What the defaults would train, and shorter runs to begin with."""
    from gpgrad import config

    settings = config.load()
    what = f"{config.label(settings)} on {settings.env.name} (preset {settings.preset})"
    print(
        f"gpgrad train --env {settings.env.name} --algo {settings.algo} would train {what}, {settings.seeds} seed, for "
        f"{settings.t_max:,} environment steps.\nOn a few CPU cores that takes an hour or more, on a GPU minutes; the "
        f"progress line shows the time left.\n\n"
        f"A run of about a minute:\n"
        f"  gpgrad train --env matrix_gpvd --algo qmix --t-max 20k --evaluation.every-steps 2k\n"
        f"Environments and algorithms:  gpgrad list\n"
        f"Every setting:                gpgrad train --env NAME --algo NAME --help"
    )
    return 0


def begin(given: dict[str, str], wants_help: bool) -> int:
    """A new run, or the rest of one; or the settings that it would have."""
    from gpgrad import config

    if "resume" in given:
        return go_on(given)
    if "extend" in given:
        return go_further(given)
    chosen = {name: given.pop(name) for name in CHOICES if name in given}
    settings = config.load(**chosen, overrides=given)
    if wants_help:
        return show_settings(settings)
    from gpgrad.training.train import run

    run(settings)
    return 0


def join(told: dict[str, str]) -> None:
    """Become one of several processes; those after the first say nothing."""
    from gpgrad.config import validate

    if told.pop("hosts", "auto") != "auto":
        raise SettingError("--hosts only accepts auto; otherwise pass --coordinator, --processes and --process")
    if told and set(told) != set(HOSTS[1:]):
        raise SettingError("--coordinator, --processes and --process must be passed together, or --hosts auto alone")
    from gpgrad.learning import multiprocess

    if not told:
        multiprocess.join(None, None, None)
        return
    count, index = (validate.coerce(told[name], int, f"--{name}") for name in ("processes", "process"))
    if not 0 <= index < count:
        raise SettingError(f"--process must be between 0 and {count - 1} (got {index})")
    multiprocess.join(told["coordinator"], count, index)


def go_on(given: dict[str, str]) -> int:
    """Resume a run with the settings it was started with."""
    folder = run_of(given.pop("resume"))
    if given:
        raise SettingError(f"--{next(iter(given))} cannot be changed when a run is resumed; pass --resume alone")
    from gpgrad.training.train import resume

    resume(folder)
    return 0


def go_further(given: dict[str, str]) -> int:
    """Train a run for more steps than it was started with, all else as it was."""
    from gpgrad.config import validate
    from gpgrad.training.train import extend

    folder = run_of(given.pop("extend"))
    if "t_max" not in given:
        raise SettingError("--extend needs --t-max, the environment steps at which to end")
    t_max = validate.coerce(given.pop("t_max"), int, "--t-max")
    log = {name: given.pop(f"log.{name}") for name in ("name", "dir") if f"log.{name}" in given}
    if given:
        raise SettingError(
            f"--{next(iter(given))} cannot be changed when a run is extended; only --t-max and --log.* can"
        )
    extend(folder, t_max, log)
    return 0


def show_settings(settings) -> int:
    """Every setting of a configuration in groups: name, value, choices, what it does."""
    from rich.console import Console
    from rich.table import Table

    from gpgrad import config
    from gpgrad.cli import setting_help

    said, types = setting_help.sentences(settings), config.types(settings)
    table = Table("--setting", "value", "what it does")
    flat, last = config.flat(settings), ""
    groups = {name.partition(".")[0] for name in flat if "." in name}
    for name, value in flat.items():
        group = name.partition(".")[0] if name.partition(".")[0] in groups else ""
        if group != last:
            table.add_section()
        last = group
        allowed = setting_help.choices(types.get(name))
        text = said.get(name, "") + (f" [{allowed}]" if allowed else "")
        table.add_row(name, str(value), text.replace("[", "\\["))
    print(help_text(USAGE, OPTIONS))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0
