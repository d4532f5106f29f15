"""`experiment`: run, draw and judge the named experiments of the catalog."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpgrad.cli.arguments import FOLDER, PATH
from gpgrad.cli.command import CONTEXT, Command, Group
from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from gpgrad.experiments.schema import Definition

_CHECKOUT = Path(__file__).parents[1] / "experiments" / "results"
RESULTS = _CHECKOUT if _CHECKOUT.is_dir() else Path("results")  # an installed package has none and gets none
QUICK = "quick"


ELSEWHERE = "settings belong in the experiment's file"
ROOT = click.option("--log.dir", "root", default="runs", metavar="DIR", type=FOLDER, help="folder of runs")
RESULTS_OPTION = click.option(
    "--results",
    default=lambda: str(RESULTS),
    show_default="a checkout's experiments/results, else results",
    metavar="DIR",
    type=FOLDER,
    help="folder of reports; its folder records keeps rows of runs, which count as finished",
)
SCALE = click.option("--scale", metavar="SCALE", default=QUICK, help="a scale of the experiment")
NAME = click.argument("name", required=False, metavar="NAME")  # the experiment, which `_chosen` asks for


@click.group(
    "experiment", cls=Group, context_settings=CONTEXT, short_help="named experiments: run, draw and judge them"
)
def main() -> None:
    """Run, draw and judge the named experiments of the catalog. NAME is one of them or a YAML file."""


@main.command("list", cls=Command, elsewhere=ELSEWHERE, short_help="every experiment, its question and its scales")
def show_names() -> int:
    """Print every experiment of the catalog, its question and its scales."""
    from gpgrad.experiments import definition

    for name in definition.names():
        loaded = definition.load(name)
        scales = ", ".join(f"{key} ({len(scale.seeds)} seeds)" for key, scale in loaded.scales.items())
        arms = ", ".join(dict.fromkeys(arm.label for arm in loaded.arms))
        print(f"{name}: {loaded.question}\n  arms: {arms}; worlds: {', '.join(loaded.panels)}; scales: {scales}")
    return 0


@main.command("status", cls=Command, elsewhere=ELSEWHERE, short_help="what is finished, running or missing")
@click.argument("name", required=False)
@click.option("--scale", metavar="SCALE", help="a scale of the experiment, by default all")
@ROOT
@RESULTS_OPTION
def status(name: str | None, scale: str | None, root: Path, results: Path) -> int:
    """Print which seeds of each arm are finished, running, interrupted or missing."""
    from gpgrad.experiments import archive, definition
    from gpgrad.experiments.availability import NOT_TESTABLE, obstacle
    from gpgrad.runs import wanted_seeds
    from gpgrad.runs.progress import seeds_text

    found, problems = archive.scan(root, results)
    for problem in problems:
        print(problem)
    for loaded in map(definition.load, [name] if name is not None else definition.names()):
        if loaded.measure != "training":
            print(f"{loaded.name}: measures {loaded.measure}, trains nothing")
            continue
        for each in loaded.scales if scale is None else [scale]:
            print(f"{loaded.name}, {each}:")
            for setup in definition.setups(loaded, each):
                if reason := obstacle(setup):
                    print(f"  {setup.arm.label} on {setup.arm.panel}: {NOT_TESTABLE}: {reason}")
                    continue
                for line in wanted_seeds.overview(found, setup.identity, setup.seeds, setup.settings_id):
                    print(f"  {setup.arm.label} on {setup.arm.panel}, {seeds_text(line.seeds)}: {line.text}")
    return 0


@main.command(
    "run", cls=Command, passes=("log.", "checkpoint."), elsewhere=ELSEWHERE, short_help="train what is missing, report"
)
@NAME
@SCALE
@ROOT
@RESULTS_OPTION
@click.option("--seeds-mode", metavar="MODE", help="layout of the seeds of a run, see gpgrad train --help")
def run(
    name: str | None, scale: str, root: Path, results: Path, seeds_mode: str | None, settings: dict[str, str]
) -> int:
    """Train what is missing, resume what was interrupted, then report.

    Options --log.NAME and --checkpoint.NAME are passed to the runs that are started.
    """
    from gpgrad.experiments import definition

    extra = _passed_on(settings)
    loaded = _chosen(name, scale)
    from gpgrad import plots
    from gpgrad.jobs.scheduler import execute

    if loaded.measure != "training":
        _measure(loaded, scale, results)
        return 0
    plots.require()  # rather now than after hours
    setups = definition.setups(loaded, scale)
    if seeds_mode is not None:
        extra.append(f"--seeds-mode={seeds_mode}")
    from gpgrad.experiments import archive
    from gpgrad.experiments.availability import NOT_TESTABLE, obstacle

    why = dict.fromkeys(filter(None, map(obstacle, setups)))
    for sentence in why:
        print(f"{NOT_TESTABLE}: {sentence}")
    known = {path.name for path in root.glob("*")}
    kept = [run for run in archive.scan(root, results)[0] if run.folder.name not in known]
    failures = execute([setup for setup in setups if not obstacle(setup)], root, extra, print, kept)
    _report(loaded, scale, root, results)
    return 1 if failures else 0


@main.command(
    "queue", cls=Command, passes=("log.", "checkpoint."), elsewhere=ELSEWHERE, short_help="train the runs of a queue"
)
@click.argument("file", required=False, type=PATH)
@click.option(
    "--status", "only_status", is_flag=True, help="print what is finished, running and next, and the time left"
)
@ROOT
@RESULTS_OPTION
def queue(file: Path | None, only_status: bool, root: Path, results: Path, settings: dict[str, str]) -> int:
    """Train the runs of a queue, by default experiments/queue.yaml, one after the other on one core.

    They have the lowest priority. A second process takes another core and the next free run. Options --log.NAME and
    --checkpoint.NAME are passed to the runs that are started.
    """
    extra = _passed_on(settings)
    from gpgrad.experiments.queue import lane, queue_file
    from gpgrad.experiments.queue import status as queue_status

    file = file or queue_file.FILE
    if only_status:
        for line in queue_status.lines(file, root, results):
            print(line)
        return 0
    with lane.opened(root) as core:
        print(f"a lane on core {core}, process {os.getpid()}")
        failures = lane.work(file, root, results, extra, print)
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def _passed_on(settings: dict[str, str]) -> list[str]:
    """Options for the runs that are begun, as `gpgrad train` takes them."""
    if "log.name" in settings:
        raise SettingError("--log.name cannot be given: it would name all runs of an experiment alike")
    return [f"--{key}={value}" for key, value in settings.items()]


@main.command("report", cls=Command, elsewhere=ELSEWHERE, short_help="curves, tables and verdicts of what is finished")
@NAME
@SCALE
@ROOT
@RESULTS_OPTION
def report(name: str | None, scale: str, root: Path, results: Path) -> int:
    """Write the report of what is finished: curves, tables and verdicts."""
    loaded = _chosen(name, scale)
    if loaded.measure != "training":
        raise SettingError(f"{loaded.name} trains no runs to report on; use gpgrad experiment run {loaded.name}")
    _report(loaded, scale, root, results)
    return 0


@main.command("results", cls=Command, elsewhere=ELSEWHERE, short_help="write RESULTS.md, the index of all reports")
@RESULTS_OPTION
def collect_results(results: Path) -> int:
    """Write RESULTS.md, the index of all reports; run and report write it too."""
    _collect(results)
    return 0


def _collect(results: Path) -> None:
    from gpgrad.experiments import definition
    from gpgrad.experiments.reporting import results_index

    wanted = definition.names() if results == RESULTS else []  # a folder of one's own need not have everything
    for path in results_index.write(results, wanted):
        print(f"{path} was made by another version and is left out of {results_index.PAGE}; it must be made again")


def _measure(loaded: Definition, scale: str, results: Path) -> None:
    from gpgrad.experiments import definition
    from gpgrad.experiments.reporting import tables

    folder = results / f"{loaded.name}-{scale}"
    tables.write(loaded, scale, definition.setups(loaded, scale), folder)
    _collect(results)
    print(f"{loaded.name}, {scale}: {folder / 'README.md'}")


def _report(loaded: Definition, scale: str, root: Path, results: Path) -> None:
    from gpgrad.experiments import archive, definition
    from gpgrad.experiments.reporting import page
    from gpgrad.experiments.reporting.report import collect

    found, problems = archive.scan(root, results)
    for problem in problems:
        print(problem)
    folder = results / f"{loaded.name}-{scale}"
    collected = collect(loaded, definition.setups(loaded, scale), found)
    summary = page.write(folder, loaded, scale, collected, found)
    archive.keep([share.run for result in collected for share in result.shares], results)
    _collect(results)
    missing = sum(len(arm["missing"]) for arm in summary["arms"])
    print(f"{loaded.name}, {scale}: {folder / 'README.md'}" + (f"; {missing} seeds are missing" if missing else ""))


def _chosen(name: str | None, scale: str) -> Definition:
    """The experiment of this name, which has this scale. Raises SettingError."""
    from gpgrad.experiments import definition

    if name is None:
        raise SettingError(f"the name of an experiment is missing; must be one of {', '.join(definition.names())}")
    loaded = definition.load(name)
    loaded.scale(scale)
    return loaded
