"""The command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpgrad import __main__ as cli

ROOT = Path(__file__).parents[2]
SMALL = ["--agent.hidden", "8", "--evaluation.final_episodes", "3", "--t_max", "1500", "--evaluation.every_steps=500"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--env", "pp_smal"], "unknown world 'pp_smal'; did you mean 'pp_small'?"),
        (["train", "--algo", "qmix", "--learnr.lr", "1"], "unknown setting 'learnr.lr'; did you mean 'learner.lr'?"),
        (["train", "--seeds"], "--seeds has no value"),
        (["train", "pp_small"], "unexpected argument 'pp_small'"),
        (["train", "--seeds", "1", "--seeds", "2"], "--seeds is given twice"),
        (["train", "--env.height", "3", "--env.width", "3"], "do not fit"),
        (["train", "--env.n_special", "9"], "n_special is 9"),
        (["train", "--replay.capacity", "900000000"], "would fit"),
        (
            ["train", "--algo", "gpvd", "--weighting.alpha", "2"],
            "weighting.alpha is 2.0, expected more than 0 and at most",
        ),
        (["train", "--algo", "gpvd", "--weighting.k", "65"], "weighting.k is 65, expected between 1 and 64"),
        (["train", "--algo", "gpvd", "--weighting.beta=-1"], "weighting.beta is -1.0, expected 0 or more"),
        (
            ["train", "--algo", "gpvd", "--weighting.grouping", "x"],
            "weighting.grouping is 'x'; valid names are batch, exact",
        ),
        (["train", "--algo", "gpvd", "--weighting.g", "zscor"], "weighting.g is 'zscor'; did you mean 'zscore'?"),
        (["eval"], "eval needs the folder of a finished run"),
        (["eval", "nowhere"], "nowhere holds no finished run"),
        (["list", "world"], "unknown topic 'world'; did you mean 'worlds'?"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr("gpgrad.train.finish", lambda *_: pytest.fail("training began"))
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gpgrad: ")
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("stop", "words"), [((), "interrupted; what was written so far is kept"), (("told",), "told")])
def test_an_interruption_is_one_sentence_and_code_130(stop, words, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt(*stop)

    monkeypatch.setattr("gpgrad.commands.list.main", interrupt)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == f"gpgrad: {words}\n"


@pytest.mark.parametrize(("stop", "code", "torn_down"), [("KeyboardInterrupt", 130, False), ("OSError", 1, True)])
def test_an_interrupted_process_ends_without_teardown(stop, code, torn_down):
    """Exit handlers still run; Python's teardown can crash after an interrupt within a compilation."""
    script = (
        "import atexit, runpy, sys, gpgrad.commands.list as command\n"
        "class Late:\n    def __del__(self): sys.__stdout__.write('torn down ')\n"
        f"def fail(*_):\n    atexit.register(print, 'handler ran'); raise {stop}\n"
        "late, command.main, sys.argv = Late(), fail, ['gpgrad', 'list']\n"
        "runpy.run_module('gpgrad', run_name='__main__')"
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
    assert cli.main(["eval", str(folder), "--episodes", "3", "--stream", "0"]) == 0
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert again == final
    assert cli.main([*run, "--log.name", "one"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "gpgrad", "train", "--env", "pp_smal"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "gpgrad: unknown world 'pp_smal'; did you mean 'pp_small'?\n"
