"""Every setting has a sentence, which makers' docstrings give."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from gpgrad import __main__ as cli
from gpgrad import config, envs, signatures
from gpgrad.cli import COMMANDS, setting_help
from gpgrad.cli.command import COMPLETE, program
from gpgrad.methods import registry
from tests.helpers.fake_experiment import put, settings_of

ROOT = Path(__file__).parents[2]
EXTERNAL = ["smac_3m", "smacv2_terran_5_vs_5", "smaclite_3m", "gym_x", "pz_x", "host_a:b"]


@pytest.mark.parametrize("kind", ["env", *registry.KINDS])
def test_no_setting_of_a_built_in_part_lacks_a_sentence(kind):
    names = [*envs.names(), *EXTERNAL] if kind == "env" else registry.names(kind)
    lacking = [
        f"{kind} {name}: {option}"
        for name in names
        for option, text in setting_help.of_part(kind, name).items()
        if len(text.split()) < 2
    ]
    assert not lacking


def test_no_setting_of_the_schema_lacks_a_sentence():
    settings = config.load("pp_small", "gradps", {"weighting": "gpvd"})
    said = setting_help.sentences(settings)
    assert [name for name in config.flat(settings) if not said.get(name)] == []


def test_descriptions_are_read_from_docstrings():
    doc = """A maker, which has: no names.

    k, T: one of two; 0: never. alpha: of
    several lines. beta: QMIX's. other: not asked for. gamma: see `Settings`. delta:
    the last

    epsilon: after an empty line.
    """
    found = signatures.sentences(doc, ["k", "T", "alpha", "beta", "gamma", "delta", "epsilon", "missing"])
    assert found == {
        "k": "one of two; 0: never",
        "T": "one of two; 0: never",
        "alpha": "of several lines",
        "delta": "the last",
        "epsilon": "after an empty line",
    }


def test_help_shows_sentences_and_choices(capsys):
    assert cli.main(["train", "--env", "matrix_additive", "--algo", "qmix", "--weighting", "gpvd", "--help"]) == 0
    printed = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for text in (
        "env.w 1.0 weight of agent 1's action",
        "decomposition.embed 32 width E of the mixing layer",
        "weighting.grouping batch `batch` groups a batch by codes",
        "[batch | exact | single]",
        "learner.double_q true double Q-learning: the online network selects the next action [true | false]",
    ):
        assert text in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_sentence(command, capsys):
    top = importlib.import_module(f"gpgrad.cli.{command.replace('-', '_')}").main
    commands = {(command, name): each for name, each in top.commands.items()} if command == "experiment" else {}
    for words, each in {(command,): top, **commands}.items():
        sentences = [param.help or "" for param in each.params if isinstance(param, click.Option)]
        assert all(len(sentence.split()) > 1 for sentence in sentences)
        assert len(each.help.split()) > 3
        assert each.short_help
        assert cli.main([*words, "--help"]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"Usage: gpgrad {' '.join(words)} ")
        assert all(sentence in " ".join(printed.split()) for sentence in sentences)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tr", "train"),
        ("train --learner.lo", "--learner.loss_factor"),
        ("train --lr 1 --learner.lo", "--learner.loss_factor"),
        ("train --env pp_s", "pp_small"),
        ("train --preset pymarl3 --env pp_s", "pp_small"),
        ("check pp_s", "pp_small"),
        ("eval --ep", "--episodes"),
        ("mirror --wandb of", "offline"),
        ("experiment que", "queue"),
        ("experiment run --sc", "--scale"),
    ],
)
def test_the_tab_key_offers_commands_settings_and_values(words, offered):
    *before, incomplete = words.split()
    found = ShellComplete(program, {}, "gpgrad", COMPLETE).get_completions(before, incomplete)
    assert [item.value for item in found] == [offered]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_completion_script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert f"{COMPLETE}={shell}_complete" in capsys.readouterr().out
    assert cli.main(["completion", "tcsh"]) == 2
    assert capsys.readouterr().err == "gpgrad: SHELL is 'tcsh'; did you mean 'zsh'?\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_asks_the_program(tmp_path, capsys):
    assert cli.main(["completion", "bash"]) == 0
    source = capsys.readouterr().out
    started = tmp_path / "gpgrad"
    started.write_text(f"#!/bin/sh\nexec {sys.executable} -m gpgrad\n")
    started.chmod(0o755)
    words = "COMP_WORDS=(gpgrad train --learner.lo); COMP_CWORD=2"
    ask = f'{source}\n{words}; _gpgrad_completion "{started}"; echo $COMPREPLY'
    done = subprocess.run(["bash", "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "--learner.loss_factor"


@pytest.mark.parametrize("word", ["--resume", "--extend"])
def test_help_about_a_run_shows_its_settings_and_starts_nothing(tmp_path, capsys, monkeypatch, word):
    run = put(tmp_path, "run", settings_of("vdn"))
    monkeypatch.setattr("gpgrad.cli.train.go_on", None)
    monkeypatch.setattr("gpgrad.cli.train.go_further", None)
    assert cli.main(["train", word, str(run), "--help"]) == 0
    assert "matrix_additive" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "own", "setting"),
    [
        ("occupancy", ["--env", "pp_small"], ["--agent.hidden", "8"]),
        ("eval", ["RUN"], ["--env.penalty", "-1"]),
        ("sweep", ["FILE", "--dry-run"], ["--log.wandb", "disabled"]),
        ("experiment queue", ["--status"], ["--log.wandb", "disabled"]),
        ("experiment run", ["pp_small_qmix", "--scale", "quick"], ["--log.wandb=disabled"]),
        ("check", ["pp_small"], ["--env.penalty", "-1"]),
        ("bench", ["--algos", "vdn"], ["--agent.hidden", "8"]),
    ],
)
def test_settings_may_stand_anywhere(tmp_path, name, own, setting):
    run = put(tmp_path, "run", settings_of("vdn"))
    (run / "team").mkdir()
    own = [{"RUN": str(run), "FILE": str(run / "config.yaml")}.get(word, word) for word in own]
    found = program
    for part in name.split():
        found = found.get_command(None, part)
    made = [found.make_context(name, words).params for words in ([*setting, *own], [*own, *setting])]
    assert made[0] == made[1]
    key, _, value = "=".join(setting).removeprefix("--").partition("=")
    assert made[0]["settings"] == {key: value}
