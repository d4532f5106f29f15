"""What a run in which the method did not act says nothing about."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gpgrad import config
from gpgrad.runs import method_activity
from gpgrad.training.recorder import Recorder

PROTECTION = "no evidence about protection: less than 1 percent of transitions were down-weighted in every test"
CLONING = "no evidence about cloning: no neuron was cloned in any test"


def rows(seed: int, metric: str, *values: float | None) -> list[dict]:
    """One seed's tests; the first one comes before anything was learned."""
    first = {"seed": seed, "test_return": 0.0, metric: None}
    return [first, *({"seed": seed, "test_return": 1.0, metric: value} for value in values)]


def test_amounts_are_the_last_and_the_most_over_layers():
    cloned = [{"cloned": None}, {"cloned": 3, "cloned_1": 4}, {"cloned": 1, "cloned_1": 0}]
    assert method_activity.amounts(cloned) == {"cloned": method_activity.Amount(1, 7)}
    assert method_activity.amounts(rows(0, "loss", 1.0)) == {}
    assert method_activity.amounts(rows(0, "cloned", None)) == {}


@pytest.mark.parametrize(
    ("algo", "metric", "enough", "little", "sentence"),
    [
        ("gpvd", "share_downweighted", 0.01, 0.0099, PROTECTION),
        ("gpvd_random", "share_downweighted", 0.5, 0.0, PROTECTION),
        ("gradps", "cloned", 1, 0, CLONING),
        ("gradps_random", "cloned", 64, 0, CLONING),
    ],
)
def test_some_test_has_to_show_enough_of_it(algo, metric, enough, little, sentence):
    settings = config.load("matrix_additive", algo, {})
    acted, idle = rows(0, metric, little, enough, little), rows(1, metric, little, little)
    assert method_activity.sentences(settings, {0: acted}) == []
    assert method_activity.lacking(settings, method_activity.by_seed(acted + idle)) == {sentence: [1]}
    others = {seed: rows(seed, metric, little) for seed in (2, 3, 5)}
    assert method_activity.sentences(settings, others) == [f"{sentence} (seeds 2, 3, 5)"]


def test_weights_of_one_are_a_control():
    idle = {0: rows(0, "share_downweighted", 0.0)}
    assert method_activity.sentences(config.load("matrix_gpvd", "gpvd", {}), idle)
    assert not method_activity.sentences(config.load("matrix_gpvd", "gpvd_no_protection", {}), idle)
    assert not method_activity.sentences(config.load("matrix_gpvd", "qmix", {}), {0: rows(0, "loss", 0.0)})


def test_one_clone_is_a_control():
    idle = {0: rows(0, "cloned", 0)}
    assert method_activity.sentences(config.load("matrix_additive", "gradps", {}), idle)
    assert not method_activity.sentences(config.load("matrix_additive", "gradps", {"sharing.k": 1}), idle)


def test_a_run_says_at_its_end_what_it_is_no_evidence_about(tmp_path, capsys):
    settings = config.load("matrix_additive", "gradps", {"seeds": 2, "log.wandb": "disabled"})
    before = [{"env_steps": 5, **row} for row in rows(1, "cloned", 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in before))
    size = (tmp_path / "metrics.jsonl").stat().st_size
    place = {"env_steps": 10, "iterations": 1, "updates": 1, "epsilon": 0.1, "test_return": 1.0, "cloned": 0}
    with Recorder(settings, tmp_path, print, {"metrics": size}) as recorder:  # resumed: seed 1 has cloned before
        recorder.write([{"seed": seed, **place} for seed in (0, 1)], np.array([True, True]))
        recorder.finish([{"seed": seed, "test_return": 2.0} for seed in (0, 1)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["final test: return 2.00 ± 0.00 (2 seeds, ± 95%)", f"{CLONING} (seed 0)"]
