"""Every setting has a sentence, which makers' docstrings give."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess

import pytest

from gpgrad import __main__ as cli
from gpgrad import config, envs, signatures
from gpgrad.cli import COMMANDS, setting_help
from gpgrad.methods import registry

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
        "learner.double_q True double Q-learning: the online network selects the next action [true | false]",
    ):
        assert text in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_sentence(command, capsys):
    module = importlib.import_module(f"gpgrad.cli.{command}")
    described = {name.split()[0] for name in module.OPTIONS}
    if command != "train":  # whose settings have the table
        used = re.findall(r"--([a-z][\w.-]*\w)", module.USAGE)
        assert {name for name in used if name not in ("env.SETTING", "env.OPTION")} <= described | {"slurm.NAME"}
    assert all(len(sentence.split()) > 1 for sentence in module.OPTIONS.values())
    assert cli.main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: gpgrad")
    if command != "experiment":
        assert all(sentence in printed for sentence in module.OPTIONS.values())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_tab_key_offers_commands_settings_and_values(tmp_path, capsys):
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    asked = {
        "gpgrad tr": "train",
        "gpgrad train --learner.lo": "--learner.loss_factor",
        "gpgrad eval --ep": "--episodes",
    }
    asked |= {"gpgrad train --env pp_s": "pp_small"}
    for words, offered in asked.items():
        line = f"source {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _gpgrad; echo $COMPREPLY"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == offered, words
    assert cli.main(["completion", "fish"]) == 2
    assert capsys.readouterr().err.startswith("gpgrad: completion is for one shell; ")
