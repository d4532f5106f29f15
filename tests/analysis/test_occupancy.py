"""How full buckets are, against counting by hand, recorded play and the command line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.analysis import occupancy
from gpgrad.learning.compose import compose
from gpgrad.learning.program import actors, make_program
from gpgrad.methods.weighting import simhash
from gpgrad.training import checkpoint
from tests.helpers.tiny_runs import BOARD, TINY, tiny

DATA = Path(__file__).parents[1] / "data"
SMALL = [f"--{name}={value}" for name, value in {**TINY, **BOARD}.items()]


@pytest.mark.slow
def test_play_comes_in_batches_of_whole_episodes():
    settings = tiny(evaluation__episodes=3)
    parts = compose(settings)
    actor = occupancy.untrained(settings, parts)
    played = occupancy.play(parts, actor, jax.random.key(0), episodes=8, batch=4, eps=1.0)
    assert played.valid.shape == (2, 4 * 6)
    assert played.states.index.shape[:2] == (2, 4 * 6)
    assert bool(played.valid.any())


@pytest.mark.parametrize("g", ["identity", "zscore"])
def test_measure_counts(g):
    rng = np.random.default_rng(0)
    states = jnp.array(rng.integers(0, 2, (3, 40, 4)) + rng.normal(size=4), jnp.float32)
    valid = jnp.array(rng.random((3, 40)) < 0.7)
    keys = jax.random.split(jax.random.key(1), 2)
    got = occupancy.measure(occupancy.Play(states, valid), 5, g, keys)
    rows = []
    for key in keys:
        hashing = simhash.standardise(simhash.make_hash(key, 5, 4), g, states[0], valid[0])
        for batch, ok in zip(states, valid, strict=True):
            codes = np.asarray(simhash.codes(hashing.projection, batch, hashing.threshold))[np.asarray(ok), 0]
            sizes = np.array(list(Counter(codes.tolist()).values()))
            rows.append((sizes[sizes > 1].sum() / sizes.sum(), len(sizes), sizes.max() / sizes.sum()))
    np.testing.assert_allclose(got, np.mean(rows, 0), rtol=1e-6)
    assert 0 < float(got.largest) < 1


def test_on_recorded_play():
    """Nine episodes of the reference's 8-predator board: 32 bits tell nearly every state apart, 8 hardly any."""
    with np.load(DATA / "stag_hunt_trace_gpvd_p2.npz") as trace:
        states = np.unpackbits(trace["state_bits"], axis=1)[:, :300].astype(np.float32)
    played = occupancy.Play(jnp.array(states)[None], jnp.ones((1, len(states)), bool))
    rows = occupancy.table(played, jax.random.key(0), (8, 16, 32))
    assert [row["g"] for row in rows[::3]] == list(occupancy.PREPROCESSING)
    for eight, sixteen, most in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert eight["shared"] > 0.97
        assert 0.02 < sixteen["shared"] < 0.12
        assert most["shared"] < 0.01


@pytest.mark.slow
def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(occupancy, "BITS", (2, 40))
    monkeypatch.setattr(occupancy.table, "__defaults__", ((2, 40), 2))
    file = tmp_path / "rows.json"
    assert cli.main(["occupancy", "--env", "pp_small", "--episodes", "8", "--json", str(file), *SMALL]) == 0
    rows = json.loads(file.read_text())
    assert [(row["g"], row["k"]) for row in rows] == [(g, k) for g in occupancy.PREPROCESSING for k in (2, 40)]
    assert all(0 <= row["shared"] <= 1 and row["buckets"] >= 1 for row in rows)
    assert rows[0]["shared"] > rows[1]["shared"]
    assert "random play" in capsys.readouterr().out

    settings = tiny()
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(config.dump(settings))
    checkpoint.save_team(run, actors(make_program(settings).init(jnp.zeros(1, jnp.int32))))
    capsys.readouterr()
    assert cli.main(["occupancy", str(tmp_path / "run"), "--episodes", "4"]) == 0
    assert "the team of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere holds no finished run"),
        (["--episodes", "0"], "--episodes must be a multiple of learner.batch_episodes = 128 (got 0)"),
        (["--epsilon", "2"], "--epsilon must be between 0 and 1 (got 2)"),
        (["--env", "pp_p3"], "unknown environment 'pp_p3'"),
        (["--episodes", "100"], "--episodes must be a multiple"),
        (["nowhere", "--env", "pp_p2"], "--env cannot be changed for a run"),
    ],
)
def test_mistakes(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr("gpgrad.learning.program.make_program", lambda *_: pytest.fail("something is compiled"))
    assert cli.main(["occupancy", *arguments]) == 2
    assert sentence in capsys.readouterr().err
