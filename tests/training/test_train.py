"""The host's loop: rows, ends of seeds, wandb as a mirror, memory refused before it is taken."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import gpgrad
from gpgrad.errors import SettingError
from gpgrad.learning.initial import start_clock
from gpgrad.learning.program import actors, make_program
from gpgrad.runs import logs
from gpgrad.training import memory_plan, train
from tests.helpers.tiny_runs import one_seed, tiny

EARLY_ENDS = {
    "env__height": 4,
    "env__width": 4,
    "env__n_stags": 0,
    "env__episode_limit": 30,
    "t_max": 300,
    "evaluation__every_episodes": 2,
}


@pytest.fixture(scope="module")
def program():
    """Compiled once for the runs of three seeds, which differ in their folders only."""
    return make_program(tiny(seeds=3, seed=5, **EARLY_ENDS))


@pytest.fixture(scope="module")
def result(tmp_path_factory, program):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_program", lambda settings, parts=None: program)
        folder = tmp_path_factory.mktemp("runs")
        return gpgrad.run(tiny(log__dir=str(folder), seeds=3, seed=5, **EARLY_ENDS), say=lambda text: None)


def test_each_seed_ends_at_its_own_first_test_beyond_t_max(result):
    lengths = set()
    for seed in (5, 6, 7):
        steps = [row["env_steps"] for row in result.metrics if row["seed"] == seed]
        assert steps[0] == 0
        assert steps[-1] >= 300
        assert all(step < 300 for step in steps[:-1])
        lengths.add(len(steps))
    assert len(lengths) > 1, "seeds must end at different tests for this to show anything"


def test_rows_are_what_the_file_holds(result):
    rows = logs.read_rows(result.run_dir / "metrics.jsonl")
    assert rows == result.metrics
    first, last = rows[0], rows[-1]
    assert first["loss"] is None
    assert np.isfinite([last["loss"], last["grad_norm"], last["train_return"], last["test_return"]]).all()
    assert len(last["test_agent_stags"]) == 3
    for name in ("stags", "hares", "special_captures", "ordinary_captures", "special_hares"):
        assert f"test_{name}" in last
    assert 0.05 <= last["epsilon"] < 1
    timing = logs.read_rows(result.run_dir / "timing.jsonl")
    assert [row["seconds"] for row in timing] == sorted(row["seconds"] for row in timing)
    assert len(result.final) == 3
    manifest = json.loads((result.run_dir / "manifest.json").read_text())
    assert manifest["jax"]


@pytest.mark.slow
def test_same_settings_same_file(result, tmp_path):
    again = gpgrad.run(tiny(log__dir=str(tmp_path), seeds=3, seed=5, **EARLY_ENDS), say=lambda text: None)
    assert (again.run_dir / "metrics.jsonl").read_bytes() == (result.run_dir / "metrics.jsonl").read_bytes()


def test_each_seeds_team_is_kept_from_its_own_last_test(result, program):
    """A seed that ended earlier keeps the parameters it had then, as if it had been trained alone."""
    ends = {seed: [row for row in result.metrics if row["seed"] == seed][-1] for seed in (5, 6, 7)}
    first = min(ends, key=lambda seed: ends[seed]["iterations"])
    assert ends[first]["iterations"] < max(row["iterations"] for row in ends.values())
    states = program.init(np.array([5, 6, 7], np.int32))
    _, states = program.chunk(start_clock(), states, ends[first]["iterations"])
    at_its_end = one_seed(actors(states).params, first - 5)
    jax.tree.map(np.testing.assert_array_equal, at_its_end, one_seed(result.params, first - 5))


@pytest.mark.slow
def test_a_failing_final_test_keeps_the_team(tmp_path, monkeypatch):
    settings = tiny(log__dir=str(tmp_path), log__name="run", **EARLY_ENDS)
    broken = make_program(settings)._replace(final=lambda team, index: 1 / 0)
    monkeypatch.setattr(train, "make_program", lambda settings: broken)
    with pytest.raises(ZeroDivisionError):
        train.run(settings, say=lambda text: None)
    assert (tmp_path / "run" / "team").is_dir()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"evaluation__every_episodes": 5, "rollout__worlds": 8, "learner__target_every_episodes": 8},
            "every 5 episodes",
        ),
        ({"t_max": 100}, "evaluation.every_steps must be at most t_max = 100"),
    ],
)
def test_tests_that_cannot_be(tmp_path, changes, sentence):
    with pytest.raises(SettingError, match=sentence):
        gpgrad.run(tiny(log__dir=str(tmp_path), **changes), say=lambda text: None)


def test_register_refuses_what_cannot_be_a_part():
    with pytest.raises(SettingError, match="already registered"):
        gpgrad.register("decomposition", "qmix", lambda context: None)
    with pytest.raises(SettingError, match="unknown kind 'decompositions'; did you mean 'decomposition'"):
        gpgrad.register("decompositions", "mine", lambda context: None)


def test_memory_plan_counts_replay_and_refuses():
    settings = tiny(replay__capacity=4096, seeds=2)
    needs = memory_plan.make_plan(settings, make_program(settings))
    # positions and flags of 3 predators and 2 prey and a clock at 7 steps; actions, reward and two flags at 6
    assert needs.episode == 7 * (5 * 2 + 5 + 2) + 6 * (3 + 4 + 1 + 1)
    assert needs.env_state == 5 * 2 + 5 + 2
    assert f"({needs.episode} B an episode, {needs.env_state} B a state of the environment)" in needs.sentence(1)
    assert needs.replay == 4096 * needs.episode
    assert "MiB" in needs.sentence(2) or "KiB" in needs.sentence(2)
    with pytest.raises(SettingError, match=r"--seeds 1 .*would fit|--replay.capacity \d+ would fit"):
        memory_plan.refuse_if_too_big(needs._replace(free=2 * needs.one - 1), settings, 2)
    memory_plan.refuse_if_too_big(needs._replace(free=2 * needs.one), settings, 2)


def test_a_file_shorter_than_its_checkpoint_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(SettingError, match="must have at least the 9 bytes"):
        logs.JsonLines(tmp_path / "rows.jsonl", 9)


def test_lists_become_curves():
    assert logs.flatten({"a": [[1, 2], [3, 4]], "b": 5, "c": None}) == {"a/0": 1, "a/1": 2, "a/2": 3, "a/3": 4, "b": 5}
    assert logs.flatten({"long": list(range(101)), "b": 5}) == {"b": 5}
    assert logs.plain(np.array([1.0, np.nan])) == [1.0, None]
