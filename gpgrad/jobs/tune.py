"""Tuning with Optuna: one study per algorithm and environment, in a SQLite file that the same command continues.

A trial trains the tuning seeds of one point as an ordinary run. After each test the trial reports the mean of the
metric over its seeds; a trial below the median of the others at the same test is stopped (median pruning). An
interrupted trial is resumed from its checkpoint, since the run of the same settings is found by its identity.
"""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gpgrad.errors import SettingError
from gpgrad.jobs import scheduler
from gpgrad.jobs.scheduler import Say
from gpgrad.jobs.search_space import Interval, Space, Tuning
from gpgrad.jobs.sweep import Point
from gpgrad.runs import lock, run_folder
from gpgrad.runs.logs import Row
from gpgrad.runs.wanted_seeds import finished, next_job

STARTUP, WARMUP = 5, 1  # trials that are never pruned, and tests before the first that may prune: test 0 is untrained
ADDED = "problem"  # a trial's attribute: why it failed

Report = Callable[[float, int], bool]  # (mean over seeds, test) -> whether to stop


class Outcome(NamedTuple):
    """The result of training a point: its value, or None if it was pruned (problem empty) or has failed."""

    value: float | None
    problem: str = ""


class Train(Protocol):
    """Trains the seeds of a point and calls `report` after each test."""

    def __call__(self, point: Point, report: Report) -> Outcome:
        """Train; see `Outcome`. Raises Stopped on a signal."""
        ...


def require() -> Any:
    """The module optuna. Raises SettingError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise SettingError("tuning needs optuna, which is not installed: pip install 'gpgrad[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def studies(tuning: Tuning, database: Path) -> dict[tuple[str, str], Any]:
    """The study of each environment and algorithm, made or read. Raises SettingError for a database of another file."""
    optuna = require()
    database.parent.mkdir(parents=True, exist_ok=True)
    found = {}
    for env, algo in ((env, algo) for env in tuning.worlds for algo in tuning.algorithms):
        study = optuna.create_study(
            storage=f"sqlite:///{database.resolve()}",
            study_name=f"{algo} on {env}",
            direction=tuning.goal,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP),
        )
        if study.user_attrs.setdefault("content", tuning.content) != tuning.content:
            raise SettingError(
                f"{database} has trials of other settings, seeds or another search space; rename the tuning's file to "
                f"start anew, or remove {database}"
            )
        study.set_user_attr("content", tuning.content)
        # A sampler begins anew with every process: with a constant seed it would repeat its first values.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.get_trials(deepcopy=False)))
        found[env, algo] = study
    return found


def execute(tuning: Tuning, database: Path, train: Train, say: Say) -> None:
    """Do what is left of all trials. Raises Stopped on a signal, lock.Taken if another process works on it."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with lock.hold(database.with_suffix(".lock"), f"the tuning in {database}"):
        for (env, algo), study in studies(tuning, database).items():
            recover(study)
            while done(study) < tuning.trials:
                attempt(tuning, study, env, algo, train, say)


def attempt(tuning: Tuning, study: Any, env: str, algo: str, train: Train, say: Say) -> None:
    """One trial of a study."""
    optuna = require()
    trial = study.ask()
    chosen = suggest(trial, tuning.space)
    words = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in chosen.items()
    )
    say(f"{study.study_name}, trial {trial.number + 1} of {tuning.trials}: {words}")
    try:
        point = point_of(tuning, env, algo, chosen)
    except SettingError as error:
        outcome = Outcome(None, str(error))
    else:

        def report(value: float, test: int) -> bool:
            trial.report(value, test)
            return trial.should_prune()

        outcome = train(point, report)
    if outcome.problem:
        trial.set_user_attr(ADDED, outcome.problem)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        say(f"  failed: {outcome.problem}")
    elif outcome.value is None:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        say("  pruned: below the median of the trials before")
    else:
        study.tell(trial, outcome.value)
        say(f"  {tuning.metric} {outcome.value:.4g}")


def recover(study: Any) -> None:
    """Ask again for trials that a stopped process left, with the same values; their runs are resumed."""
    optuna = require()
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)


def done(study: Any) -> int:
    """Trials that count: all but those that a stopped process left."""
    return sum(trial.state.is_finished() and _counts(trial) for trial in study.get_trials(deepcopy=False))


def _counts(trial: Any) -> bool:
    return trial.state.name != "FAIL" or ADDED in trial.user_attrs


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """A value for each setting."""
    chosen: dict[str, Any] = {}
    for name, values in space.items():
        if not isinstance(values, Interval):
            chosen[name] = trial.suggest_categorical(name, list(values))
        elif values.whole:
            step = 1 if values.step is None else int(values.step)
            chosen[name] = trial.suggest_int(name, int(values.low), int(values.high), step=step, log=values.log)
        else:
            chosen[name] = trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)
    return chosen


def point_of(tuning: Tuning, env: str, algo: str, chosen: Row) -> Point:
    """The point of a trial. Raises SettingError for settings that cannot be."""
    from gpgrad import config

    options, seeds = {**tuning.common, **chosen}, tuning.tuning_seeds
    settings = config.load(env, algo, {**options, "seed": seeds[0], "seeds": len(seeds)})
    return Point(f"{algo} on {env}", env, algo, options, config.identity(settings), seeds, chosen)


class Runs:
    """Trains points as processes, `gpgrad train`, with runs in a folder; see `Train`."""

    def __init__(self, root: Path, extra: list[str], metric: str, child: scheduler.Child) -> None:
        self._root, self._extra, self._metric, self._child = root, extra, metric, child

    def __call__(self, point: Point, report: Report) -> Outcome:
        """See `Train`."""
        self._root.mkdir(parents=True, exist_ok=True)
        reported = 0
        stop = False
        with scheduler.claim_of(self._root, point) as claim:
            if job := next_job(run_folder.scan(self._root)[0], point.identity, point.seeds):
                name = f"tuning-{point.identity}-{job.seeds.start}"
                folder = job.run.folder if job.run else self._root / name

                def look(process: int) -> bool:
                    nonlocal reported, stop
                    for value in means(folder, point.seeds, self._metric, reported):
                        stop = stop or report(value, reported)
                        reported += 1
                    if stop:
                        os.kill(process, signal.SIGTERM)
                    return stop

                extra = [*self._extra, f"--log.name={name}"]
                code = self._child.run(scheduler.command_of(job, point, self._root, extra), claim, look)
                if stop:
                    return Outcome(None)
                if next_job(run_folder.scan(self._root)[0], point.identity, point.seeds):
                    return Outcome(None, scheduler.complaint(job, code))
        shares = finished(run_folder.scan(self._root)[0], point.identity, point.seeds)
        for share in shares:  # also of a run that was finished before, or within a glance
            for value in means(share.run.folder, point.seeds, self._metric, reported):
                report(value, reported)
                reported += 1
        values = [row[self._metric] for share in shares for row in share.final if row.get(self._metric) is not None]
        if len(values) < len(point.seeds):
            return Outcome(None, f"{len(values)} of {len(point.seeds)} seeds have a final {self._metric}")
        return Outcome(statistics.fmean(values))


def means(folder: Path, seeds: range, metric: str, first: int) -> Iterator[float]:
    """The means over seeds of tests from the `first`, of those that all seeds have done."""
    if not (folder / run_folder.SETTINGS).is_file():
        return
    rows = run_folder.read(folder).metrics
    curves = [[row[metric] for row in rows if row["seed"] == seed and row.get(metric) is not None] for seed in seeds]
    for test in range(first, min(map(len, curves))):
        yield statistics.fmean(curve[test] for curve in curves)


def report(tuning: Tuning, found: dict[tuple[str, str], Any]) -> list[Row]:
    """A row per environment and algorithm: counts of trials, the best one, and the values of all."""
    rows = []
    for (env, algo), study in found.items():
        trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished() and _counts(trial)]
        whole = [trial for trial in trials if trial.state.name == "COMPLETE"]
        best = study.best_trial if whole else None
        states = [trial.state.name.lower() for trial in trials]
        tried = [{**t.params, "state": t.state.name.lower(), tuning.metric: t.value} for t in trials]
        rows.append(
            {
                "world": env,
                "algorithm": algo,
                "tuning_seeds": [tuning.tuning_seeds[0], tuning.tuning_seeds[-1]],
                "trials": {name: states.count(name) for name in ("complete", "pruned", "fail")},
                tuning.metric: best.value if best else None,
                "chosen": {**tuning.common, **best.params} if best else None,
                "tries": tried,
            }
        )
    return rows


def command(tuning: Tuning, row: Row) -> str:
    """The command that trains the reported seeds with what was chosen."""
    point = Point("", row["world"], row["algorithm"], row["chosen"], "", tuning.seeds, {})
    return scheduler.shown(["gpgrad", "train", *scheduler.train_arguments(point, tuning.seeds)])
