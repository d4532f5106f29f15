"""Ordinary mistakes get exit code 2, one sentence and no traceback, whichever way they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.experiments import __main__ as experiments
from gpgrad.jobs import scheduler
from gpgrad.training import train
from tests.helpers import mistakes
from tests.helpers.mistakes import Mistake


@pytest.fixture
def nothing_begins(monkeypatch, tmp_path):
    """No training, no play and no compilation: a mistake is found before."""
    for place in ("gpgrad.training.train.finish", "gpgrad.analysis.bench.measure", "gpgrad.jobs.scheduler.execute"):
        monkeypatch.setattr(place, lambda *args, **kwargs: pytest.fail("work began"))
    monkeypatch.setattr(scheduler.Child, "run", lambda *args: pytest.fail("a process began"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problem(mistake: Mistake, capsys) -> str:
    """What is wrong with the answer to a mistake; empty if nothing is."""
    program = {"gpgrad": cli.main, "experiments": experiments.main}[mistake.program]
    try:
        code = program(mistake.arguments)
    except BaseException as error:
        capsys.readouterr()
        return f"{type(error).__name__}: {str(error)[:200]}"
    said = capsys.readouterr().err
    if code != 2:
        return f"code {code}: {said[:200]}"
    if said.count("\n") != 1 or not said.startswith("gpgrad: ") or len(said) > 2000:
        return f"no sentence of its own: {said[:300]!r}"
    return ""


def check(found: Iterator[Mistake], least: int, capsys) -> None:
    count, problems = 0, []
    for mistake in found:
        count += 1
        if why := problem(mistake, capsys):
            problems.append(f"{mistake} -> {why}")
    assert count >= least
    assert not problems, f"{len(problems)} of {count}:\n" + "\n".join(problems)


def filled(found: Iterator[Mistake], folder: Path) -> Iterator[Mistake]:
    """With the paths of a run and of a sweep in their places."""
    run = mistakes.finished_run(folder)
    sweep = folder / "sweep.yaml"
    sweep.write_text(mistakes.yaml.safe_dump(mistakes.SWEEP))
    names = {"RUN": str(run), "SWEEP": str(sweep)}
    for mistake in found:
        words = [word.replace("RUN", names["RUN"]) for word in mistake.arguments]
        yield Mistake(mistake.program, [names.get(word, word) for word in words])


def test_settings_of_wrong_types(nothing_begins, capsys):
    check(mistakes.of_settings(), 150, capsys)


def test_sizes_that_cannot_be(nothing_begins, capsys):
    check(mistakes.of_sizes(), 60, capsys)


def test_names_of_nothing(nothing_begins, capsys):
    check(mistakes.of_names(), 100, capsys)


def test_options_of_commands(nothing_begins, capsys):
    check(filled(mistakes.of_numbers(), nothing_begins), 70, capsys)


def test_declarations(nothing_begins, capsys):
    check(mistakes.of_declarations(nothing_begins), 300, capsys)


def test_files_and_folders(nothing_begins, capsys):
    check(mistakes.of_files(nothing_begins, mistakes.finished_run(nothing_begins)), 200, capsys)


def test_damaged_rows(nothing_begins, capsys):
    check(mistakes.of_rows(nothing_begins, mistakes.finished_run(nothing_begins)), 30, capsys)


def test_files_that_may_not_be_read(nothing_begins, capsys):
    file = nothing_begins / "sweep.yaml"
    file.write_text(mistakes.yaml.safe_dump(mistakes.SWEEP))
    if not mistakes.unreadable(file):
        pytest.skip("root reads everything")
    file.chmod(0)
    check(iter([Mistake("gpgrad", ["sweep", str(file)]), Mistake("experiments", ["status", str(file)])]), 2, capsys)


@pytest.mark.parametrize("value", mistakes.NUMPY, ids=lambda value: type(value).__name__)
def test_numbers_of_numpy_are_numbers(value, nothing_begins, monkeypatch):
    """Of Python's callers, through names and through the dataclass."""
    loaded = config.load("matrix_additive", "vdn", {"seeds": value, "agent.hidden": value, "learner.lr": value})
    assert type(loaded.seeds) is int
    assert type(loaded.learner.lr) is float
    raw = dataclasses.replace(loaded, seeds=value, agent=dataclasses.replace(loaded.agent, hidden=value))
    monkeypatch.setattr(train, "prepare", lambda settings, say: (settings, None, None))
    monkeypatch.setattr(train, "finish", lambda settings, *rest: settings)
    assert train.run(raw, say=lambda line: None) == loaded


@pytest.mark.parametrize("value", ["many", 1.5, None, [1], {"a": 1}, int(mistakes.HUGE)], ids=repr)
def test_settings_of_wrong_types_from_python(value, nothing_begins):
    raw = dataclasses.replace(config.load("matrix_additive", "vdn"), seeds=value)
    with pytest.raises(SettingError, match=r"^seeds must be "):
        train.run(raw, say=lambda line: None)
