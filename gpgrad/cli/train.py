"""`train`: train a team, or go on with an interrupted run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gpgrad.cli.arguments import ALGO, ENV, RUN, Number
from gpgrad.cli.command import command
from gpgrad.errors import SettingError


def alone() -> str:
    """What the defaults would train, and shorter runs to begin with."""
    from gpgrad import config

    settings = config.load()
    what = f"{config.label(settings)} on {settings.env.name} (preset {settings.preset})"
    return (
        f"gpgrad train --env {settings.env.name} --algo {settings.algo} would train {what}, {settings.seeds} seed, for "
        f"{settings.t_max:,} environment steps.\nOn a few CPU cores that takes half an hour or more, on a GPU minutes; "
        f"the progress line shows the time left.\n\n"
        f"A run of about a minute:\n"
        f"  gpgrad train --env matrix_gpvd --algo qmix --t-max 20k --evaluation.every-steps 2k\n"
        f"Environments and algorithms:  gpgrad list\n"
        f"Every setting:                gpgrad train --env NAME --algo NAME --help"
    )


@command("train", "train a team, with tests, logs and a saved team", passes=("",), alone=alone, add_help_option=False)
@click.option("--env", **ENV, help="the environment, by default pp_small")
@click.option("--algo", **ALGO, help="the algorithm, by default qmix")
@click.option("--resume", metavar="RUN", type=RUN, help="go on with an interrupted run, with its own settings")
@click.option("--extend", metavar="RUN", type=RUN, help="train a finished run further, as a new run; needs --t-max")
@click.option("--hosts", metavar="auto", help="become one of several processes, as the cluster describes them")
@click.option("--coordinator", metavar="HOST:PORT", help="address of process 0; needs --processes and --process")
@click.option("--processes", metavar="N", type=Number(int), help="how many processes share the seeds of the run")
@click.option("--process", metavar="I", type=Number(int), help="which of them this is, from 0")
@click.option("-h", "--help", "wants_help", is_flag=True, help="show this help and every setting with its value")
def main(
    env: str | None,
    algo: str | None,
    resume: Path | None,
    extend: Path | None,
    hosts: str | None,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    wants_help: bool,
    settings: dict[str, str],
) -> int:
    """Train a team, or go on with an interrupted run; print where the results are.

    Further options are settings, which --help lists with their values: --GROUP.SETTING VALUE, --preset NAME,
    --decomposition NAME, --sharing NAME, --weighting NAME, --seeds N, --t-max N, --plugin MODULE.
    """
    chosen = {name: value for name, value in (("env", env), ("algo", algo)) if value is not None}

    def begin() -> int:
        if wants_help and (run_folder := resume or extend):
            from gpgrad.config import parse

            return show_settings(parse(run_folder / "config.yaml"))
        if resume is not None:
            return go_on(resume, {**chosen, **settings})
        if extend is not None:
            return go_further(extend, {**chosen, **settings})
        from gpgrad import config

        wanted = config.load(**chosen, overrides=settings)
        if wants_help:
            return show_settings(wanted)
        from gpgrad.training.train import run

        run(wanted)
        return 0

    if wants_help or (hosts, coordinator, processes, process) == (None,) * 4:
        return begin()
    join(hosts, coordinator, processes, process)
    from gpgrad.learning import multiprocess

    with multiprocess.together():
        return begin()


def join(hosts: str | None, coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Become one of several processes; those after the first print nothing."""
    if hosts not in (None, "auto"):
        raise SettingError("--hosts only accepts auto; otherwise pass --coordinator, --processes and --process")
    missing = (coordinator, processes, process).count(None)
    if missing != (3 if hosts else 0):
        raise SettingError("--coordinator, --processes and --process must be passed together, or --hosts auto alone")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise SettingError(f"--process must be between 0 and {processes - 1} (got {process})")
    from gpgrad.learning import multiprocess

    multiprocess.join(coordinator, processes, process)


def go_on(folder: Path, given: dict[str, str]) -> int:
    """Resume a run with the settings it was started with."""
    if given:
        raise SettingError(f"--{next(iter(given))} cannot be changed when a run is resumed; pass --resume alone")
    from gpgrad.training.train import resume

    resume(folder)
    return 0


def go_further(folder: Path, given: dict[str, str]) -> int:
    """Train a run for more steps than it was started with, all else as it was."""
    from gpgrad.config import validate
    from gpgrad.training.train import extend

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
        table.add_row(name, config.text(value), text.replace("[", "\\["))
    print(click.get_current_context().get_help(), end="\n\n")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0
