"""The command line as a user meets it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gpgrad import __main__ as cli
from tests.helpers import mistakes

ROOT = Path(__file__).parents[2]
SMALL = ["--agent.hidden", "8", "--evaluation.final_episodes", "3", "--t_max", "1500", "--evaluation.every_steps=500"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--env", "pp_smal"], "unknown environment 'pp_smal'; did you mean 'pp_small'?"),
        (["train", "--algo", "qmix", "--learnr.lr", "1"], "unknown setting 'learnr.lr'; did you mean 'learner.lr'?"),
        (["train", "--seeds"], "--seeds has no value"),
        (["train", "pp_small"], "unknown argument 'pp_small'"),
        (["train", "--seeds", "1", "--seeds", "2"], "--seeds is given twice"),
        (["train", "--env.height", "3", "--env.width", "3"], "do not fit"),
        (["train", "--env.n_special", "9"], "n_special must be at most n_agents = 6 (got 9)"),
        (["train", "--replay.capacity", "900000000"], "would fit"),
        (
            ["train", "--algo", "gpvd", "--weighting.alpha", "2"],
            "weighting.alpha must be more than 0 and at most",
        ),
        (["train", "--algo", "gpvd", "--weighting.k", "65"], "weighting.k must be between 1 and 64 (got 65)"),
        (["train", "--algo", "gpvd", "--weighting.beta=-1"], "weighting.beta must be at least 0 (got -1.0)"),
        (
            ["train", "--algo", "gpvd", "--weighting.grouping", "x"],
            "weighting.grouping is 'x'; valid names are batch, exact",
        ),
        (["train", "--algo", "gpvd", "--weighting.g", "zscor"], "weighting.g is 'zscor'; did you mean 'zscore'?"),
        (["eval"], "eval needs the folder of a run"),
        (["eval", "nowhere"], "nowhere holds no run"),
        (["list", "world"], "unknown topic 'world'; did you mean 'worlds'?"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr("gpgrad.training.train.finish", lambda *_: pytest.fail("training began"))
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gpgrad: ")
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("stop", "words"), [((), "interrupted; what was written so far is kept"), (("told",), "told")])
def test_an_interruption_is_one_sentence_and_code_130(stop, words, capsys, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt(*stop)

    monkeypatch.setattr("gpgrad.cli.list.main.callback", interrupt)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == f"gpgrad: {words}\n"


INSTALLED = re.search(r'^gpgrad = "([\w.]+):(\w+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("started", ["runpy.run_module('gpgrad', run_name='__main__')", "sys.exit(start())"])
@pytest.mark.parametrize(("stop", "code", "torn_down"), [("KeyboardInterrupt", 130, False), ("OSError", 1, True)])
def test_an_interrupted_process_ends_without_teardown(stop, code, torn_down, started):
    """Exit handlers still run; Python's teardown can crash after an interrupt within a compilation."""
    script = (
        "import atexit, runpy, sys, gpgrad.cli.list as command\n"
        f"from {INSTALLED[1]} import {INSTALLED[2]} as start\n"
        "class Late:\n    def __del__(self): sys.__stdout__.write('torn down ')\n"
        f"def fail(**_):\n    atexit.register(print, 'handler ran'); raise {stop}\n"
        "late, command.main.callback, sys.argv = Late(), fail, ['gpgrad', 'list']\n"
        f"{started}"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "handler ran" in done.stdout
    assert ("torn down" in done.stdout) == torn_down


def test_list_names_everything(capsys):
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in ("pp_small", "matrix_gpvd", "qmix", "fups_id", "pymarl2", "none"):
        assert name in printed
    assert "by preset: games fups_id, gradps_paper fups, pymarl fups_id, pymarl2 fups_id, pymarl3 fups_id;" in printed
    assert cli.main(["list", "presets"]) == 0
    printed = capsys.readouterr().out
    for name in ("sharing", "fups_id", "learner.td_lambda", "rollout.worlds", "decomposition.embed", "gradps_paper"):
        assert name in printed


def test_help_shows_every_setting(capsys):
    assert cli.main(["train", "--env", "pp_p2", "--help"]) == 0
    printed = capsys.readouterr().out
    for name in ("learner.updates_per_episode", "env.penalty", "-2.0", "pymarl2"):
        assert name in printed


def test_train_then_eval(tmp_path, capsys):
    run = ["train", "--env", "matrix_gpvd", "--algo", "qmix", "--seeds", "2", "--log.dir", str(tmp_path), *SMALL]
    assert cli.main([*run, "--log.name", "one"]) == 0
    folder = tmp_path / "one"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows[:2]] == [0, 1]
    assert [row["env_steps"] for row in rows[::2]] == [0, 512, 1024, 1504]
    assert rows[0]["loss"] is None
    assert rows[-1]["loss"] > 0
    final = [json.loads(line) for line in (folder / "final.jsonl").read_text().splitlines()]
    capsys.readouterr()
    file = tmp_path / "numbers.json"
    assert cli.main(["eval", str(folder), "--episodes", "3", "--stream", "0", "--json", str(file)]) == 0
    assert json.loads(file.read_text()) == final
    lines = [re.split(r"\s*│\s*", line.strip("│ \n")) for line in capsys.readouterr().out.splitlines()]
    returns = next(line for line in lines if line[0] == "test_return")
    assert returns[2:] == [f"{row['test_return']:.4g}" for row in final]
    assert ["episodes", "6", "3", "3"] in lines
    assert cli.main([*run, "--log.name", "one"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "gpgrad", "train", "--env", "pp_smal"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "gpgrad: unknown environment 'pp_smal'; did you mean 'pp_small'?\n"


def test_a_second_interrupt_while_the_first_is_told_is_no_traceback(monkeypatch, capsys):
    def again(*args):
        raise KeyboardInterrupt

    codes = []
    monkeypatch.setattr(cli, "main", again)
    monkeypatch.setattr(cli.atexit, "register", lambda function, found: codes.append(found))
    before = signal.getsignal(signal.SIGINT)
    try:
        assert cli.script() == 130
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert codes == [[130]]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("where", ["train", "params"])
def test_sixty_four_bits_are_refused(where, capsys):
    jax.config.update("jax_enable_x64", True)
    try:
        assert cli.main([where, "--env", "matrix_gpvd"]) == 2
    finally:
        jax.config.update("jax_enable_x64", False)
    assert capsys.readouterr().err == (
        "gpgrad: JAX_ENABLE_X64 must be off: environments and networks compute in 32 bits\n"
    )


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda'\n: no GPU")])
@pytest.mark.parametrize("words", [["train", "--env", "matrix_gpvd"], ["train", "--resume", "RUN"], ["params"]])
def test_a_backend_that_is_not_there_is_one_sentence(error, words, capsys, monkeypatch, tmp_path):
    words = [str(mistakes.finished_run(tmp_path)) if word == "RUN" else word for word in words]

    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    assert cli.main(words) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("gpgrad: JAX has no device of JAX_PLATFORMS=")
    assert complaint.count("\n") == 1


def test_a_backend_that_is_not_there_in_a_process():
    command = [sys.executable, "-m", "gpgrad", "train", "--env", "matrix_gpvd"]
    where = {**os.environ, "JAX_PLATFORMS": "tpu"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=where, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("gpgrad: JAX has no device of JAX_PLATFORMS=tpu")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [["--help"], ["list"], ["list", "presets"], ["train", "--help"], ["params", "--env", "matrix_gpvd"], ["\u00fc"]],
)
def test_an_ascii_terminal_stops_nothing(words, monkeypatch):
    """Names of worlds and errors may hold what a terminal's encoding lacks."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    assert cli.main(words) == (2 if words == ["\u00fc"] else 0)
    for stream in streams:
        stream.flush()
    printed = b"".join(stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
    assert len(printed) > 20
    assert printed.isascii()


@pytest.mark.parametrize("command", ["train", "bench"])
def test_a_command_alone_says_what_it_would_do_and_begins_nothing(command, capsys, monkeypatch):
    monkeypatch.setattr("gpgrad.training.train.run", lambda *_: pytest.fail("training began"))
    monkeypatch.setattr("gpgrad.analysis.bench.setup", lambda *_: pytest.fail("a measurement began"))
    assert cli.main([command]) == 0
    printed = capsys.readouterr().out
    assert "about a minute:\n" in printed
    assert f"  gpgrad {command} --env matrix_gpvd" in printed
