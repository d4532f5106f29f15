"""Every setting has a sentence, which makers' docstrings give."""

from __future__ import annotations

import re

import pytest

from gpgrad import __main__ as cli
from gpgrad import config, envs, signatures
from gpgrad.cli import setting_help
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
        "learner.double_q True the online network selects the next action [true | false]",
    ):
        assert text in printed
