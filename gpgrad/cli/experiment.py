"""`experiment`: run, draw and judge the named experiments of the catalog."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpgrad.cli.arguments import options, path_of
from gpgrad.errors import SettingError, suggest

if TYPE_CHECKING:
    from gpgrad.experiments.schema import Definition

USAGE = """\
  experiment list | status | run | queue | report | results [NAME] [--scale SCALE]
                                                      named experiments: run, draw and judge them"""

OPTIONS = {
    "scale SCALE": "a scale of the experiment, by default quick",
    "log.dir DIR": "folder of runs, by default runs",
    "results DIR": "folder of reports",
    "status": "with queue: what is finished, running and next, and the time left",
    "seeds-mode MODE": "how seeds of a run are laid out, see gpgrad train --help",
}

HELP = """usage: gpgrad experiment COMMAND [OPTIONS]

  list                               every experiment, its question and its scales
  status [NAME] [--scale SCALE]      which seeds are finished, running, interrupted or missing
  run NAME [--scale SCALE]           train what is missing, resume what was interrupted, then report
  queue [FILE]                       train the runs of experiments/queue.yaml one after the other on one core at the
                                     lowest priority; a second process takes another core and the next free run
  queue [FILE] --status              which runs of the queue are finished, running and next, and the time left
  report NAME [--scale SCALE]        curves, tables and verdicts of what is finished
  results                            write RESULTS.md, the index of all reports (run and report write it too)

  NAME is an experiment of the catalog or a YAML file. SCALE is quick by default.
  --log.dir DIR     folder of runs, by default runs
  --results DIR     folder of reports, by default a checkout's experiments/results, else results. Its folder records
                    keeps settings and rows of runs, which count as finished
  run passes --seeds-mode, --log.* and --checkpoint.* to the runs it starts; queue passes the last two"""

_CHECKOUT = Path(__file__).parents[1] / "experiments" / "results"
RESULTS = _CHECKOUT if _CHECKOUT.is_dir() else Path("results")  # an installed package has none and gets none
QUICK = "quick"


def main(arguments: Sequence[str]) -> int:
    """Run a command; 1 if a run failed."""
    commands = {
        "list": show_names,
        "status": status,
        "run": run,
        "queue": queue,
        "report": report,
        "results": collect_results,
    }
    if not arguments or any(token in ("-h", "--help") for token in arguments):
        print(HELP)
        return 0
    if arguments[0] not in commands:
        raise SettingError(f"unknown command {arguments[0]!r}{suggest(arguments[0], commands)}")
    return commands[arguments[0]](arguments[1:])


def show_names(arguments: Sequence[str]) -> int:
    """Every experiment of the catalog."""
    from gpgrad.experiments import definition

    _given(arguments, named=False)
    for name in definition.names():
        loaded = definition.load(name)
        scales = ", ".join(f"{key} ({len(scale.seeds)} seeds)" for key, scale in loaded.scales.items())
        arms = ", ".join(dict.fromkeys(arm.label for arm in loaded.arms))
        print(f"{name}: {loaded.question}\n  arms: {arms}; worlds: {', '.join(loaded.panels)}; scales: {scales}")
    return 0


def status(arguments: Sequence[str]) -> int:
    """What there is of each arm's seeds."""
    from gpgrad.experiments import definition

    named = bool(arguments) and not arguments[0].startswith("--")
    name, given = _given(arguments, named, "scale", "log.dir", "results")
    from gpgrad.experiments import archive
    from gpgrad.experiments.availability import NOT_TESTABLE, obstacle
    from gpgrad.runs import wanted_seeds
    from gpgrad.runs.progress import seeds_text

    found, problems = archive.scan(path_of(given.get("log.dir", "runs")), path_of(given.get("results", str(RESULTS))))
    for problem in problems:
        print(problem)
    for loaded in map(definition.load, [name] if named else definition.names()):
        if loaded.measure != "training":
            print(f"{loaded.name}: measures {loaded.measure}, trains nothing")
            continue
        for scale in [given["scale"]] if "scale" in given else loaded.scales:
            print(f"{loaded.name}, {scale}:")
            for setup in definition.setups(loaded, scale):
                if reason := obstacle(setup):
                    print(f"  {setup.arm.label} on {setup.arm.panel}: {NOT_TESTABLE}: {reason}")
                    continue
                for line in wanted_seeds.overview(found, setup.identity, setup.seeds, setup.settings_id):
                    print(f"  {setup.arm.label} on {setup.arm.panel}, {seeds_text(line.seeds)}: {line.text}")
    return 0


def run(arguments: Sequence[str]) -> int:
    """Train what is missing, then report."""
    from gpgrad.experiments import definition

    name, given = _given(arguments, True, "scale", "log.dir", "results", "seeds_mode", "log.", "checkpoint.")
    extra = _passed_on(given)
    loaded, scale, root, results = _chosen(name, given)
    from gpgrad import plots
    from gpgrad.jobs.scheduler import execute

    if loaded.measure != "training":
        _measure(loaded, scale, results)
        return 0
    plots.require()  # rather now than after hours
    setups = definition.setups(loaded, scale)
    if "seeds_mode" in given:
        extra.append(f"--seeds-mode={given['seeds_mode']}")
    from gpgrad.experiments import archive
    from gpgrad.experiments.availability import NOT_TESTABLE, obstacle

    why = dict.fromkeys(filter(None, map(obstacle, setups)))
    for sentence in why:
        _say(f"{NOT_TESTABLE}: {sentence}")
    known = {path.name for path in root.glob("*")}
    kept = [run for run in archive.scan(root, results)[0] if run.folder.name not in known]
    failures = execute([setup for setup in setups if not obstacle(setup)], root, extra, _say, kept)
    _report(loaded, scale, root, results)
    return 1 if failures else 0


def queue(arguments: Sequence[str]) -> int:
    """Work off the queue, or say how far it is."""
    words = [word for word in arguments if word != "--status"]
    named = bool(words) and not words[0].startswith("--")
    name, given = _given(words, named, "log.dir", "results", "log.", "checkpoint.")
    extra = _passed_on(given)
    from gpgrad.experiments.queue import lane, queue_file
    from gpgrad.experiments.queue import status as queue_status

    file = Path(name) if named else queue_file.FILE
    root, results = Path(given.get("log.dir", "runs")), Path(given.get("results", RESULTS))
    if "--status" in arguments:
        for line in queue_status.lines(file, root, results):
            print(line)
        return 0
    with lane.opened(root) as core:
        _say(f"a lane on core {core}, process {os.getpid()}")
        failures = lane.work(file, root, results, extra, _say)
    for failure in failures:
        _say(failure)
    return 1 if failures else 0


def _passed_on(given: dict[str, str]) -> list[str]:
    """Options for the runs that are begun, as `gpgrad train` takes them."""
    if "log.name" in given:
        raise SettingError("--log.name cannot be given: it would name all runs of an experiment alike")
    passed = [key for key in given if key.startswith(("log.", "checkpoint.")) and key != "log.dir"]
    return [f"--{key}={given[key]}" for key in passed]


def report(arguments: Sequence[str]) -> int:
    """Write the report of what is finished."""
    name, given = _given(arguments, True, "scale", "log.dir", "results")
    loaded, scale, root, results = _chosen(name, given)
    if loaded.measure != "training":
        raise SettingError(f"{loaded.name} trains no runs to report on; use gpgrad experiment run {loaded.name}")
    _report(loaded, scale, root, results)
    return 0


def collect_results(arguments: Sequence[str]) -> int:
    """Write the page of all reports."""
    _, given = _given(arguments, False, "results")
    _collect(path_of(given.get("results", str(RESULTS))))
    return 0


def _collect(results: Path) -> None:
    from gpgrad.experiments import definition
    from gpgrad.experiments.reporting import results_index

    wanted = definition.names() if results == RESULTS else []  # a folder of one's own need not have everything
    for path in results_index.write(results, wanted):
        _say(
            f"{path} was made by another version and is left out of {results_index.PAGE}, expected it to be made again"
        )


def _measure(loaded: Definition, scale: str, results: Path) -> None:
    from gpgrad.experiments import definition
    from gpgrad.experiments.reporting import tables

    folder = results / f"{loaded.name}-{scale}"
    tables.write(loaded, scale, definition.setups(loaded, scale), folder)
    _collect(results)
    _say(f"{loaded.name}, {scale}: {folder / 'README.md'}")


def _report(loaded: Definition, scale: str, root: Path, results: Path) -> None:
    from gpgrad.experiments import archive, definition
    from gpgrad.experiments.reporting import page
    from gpgrad.experiments.reporting.report import collect

    found, problems = archive.scan(root, results)
    for problem in problems:
        _say(problem)
    folder = results / f"{loaded.name}-{scale}"
    collected = collect(loaded, definition.setups(loaded, scale), found)
    summary = page.write(folder, loaded, scale, collected, found)
    archive.keep([share.run for result in collected for share in result.shares], results)
    _collect(results)
    missing = sum(len(arm["missing"]) for arm in summary["arms"])
    _say(f"{loaded.name}, {scale}: {folder / 'README.md'}" + (f"; {missing} seeds are missing" if missing else ""))


def _given(arguments: Sequence[str], named: bool, *known: str) -> tuple[str, dict[str, str]]:
    """The experiment's name and the options, of which only those known, or that begin with one ending in a dot."""
    from gpgrad.experiments import definition

    if named and (not arguments or arguments[0].startswith("--")):
        raise SettingError(f"the name of an experiment is missing; must be one of {', '.join(definition.names())}")
    given = options(arguments[1:] if named else arguments)
    for key in given:
        if key not in known and not any(key.startswith(name) for name in known if name.endswith(".")):
            names = [name for name in known if not name.endswith(".")]
            raise SettingError(f"unknown option --{key}{suggest(key, names)}; settings belong in the experiment's file")
    return arguments[0] if named else "", given


def _chosen(name: str, given: dict[str, str]) -> tuple[Definition, str, Path, Path]:
    from gpgrad.experiments import definition

    loaded, scale = definition.load(name), given.get("scale", QUICK)
    loaded.scale(scale)
    return loaded, scale, path_of(given.get("log.dir", "runs")), path_of(given.get("results", str(RESULTS)))


def _say(line: str) -> None:
    print(line, flush=True)
