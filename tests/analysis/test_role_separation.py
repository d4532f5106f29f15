"""Whether conflicts tell roles apart, held against scikit-learn and against counting by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from gpgrad.__main__ import main
from gpgrad.analysis import role_separation
from gpgrad.analysis.role_separation import adjusted_rand, arrangements, permutation_p

ROLES = np.array([0, 1, 0, 0, 1, 0])


def row(conflict, groups):
    return {"roles": ROLES.tolist(), "conflict": conflict.tolist(), "groups": groups.tolist()}


@pytest.mark.parametrize("seed", range(5))
def test_index_is_that_of_scikit_learn(seed):
    one, other = np.random.default_rng(seed).integers(0, 3, (2, 12))
    assert adjusted_rand(one, other) == pytest.approx(adjusted_rand_score(one, other))


def test_index_of_partitions_in_one_piece():
    zeros = np.zeros(5, int)
    assert adjusted_rand(zeros, zeros) == adjusted_rand_score(zeros, zeros) == 1
    assert adjusted_rand(zeros, np.arange(5)) == adjusted_rand_score(zeros, np.arange(5)) == 0


def test_roles_that_cause_all_conflict_are_found():
    conflict = (ROLES[:, None] != ROLES).astype(float)
    shared = np.zeros((3, 6), int)
    found = role_separation.separation(row(conflict, np.concatenate([[ROLES, 1 - ROLES], shared])))
    assert (found.between, found.within, found.cloned, found.rand) == (1, 0, 2, 1)
    assert found.p_conflict == found.p_rand == pytest.approx(1 / 15)  # of two special ones among six


def test_noise_is_not_separated():
    rng = np.random.default_rng(2)
    chances = []
    for _ in range(200):
        noise = rng.normal(size=(6, 6))
        chances.append(role_separation.separation(row(noise + noise.T, np.zeros((2, 6), int))).p_conflict)
    assert np.mean(np.array(chances) <= 3 / 15 + 1e-9) == pytest.approx(0.2, abs=0.08)


def test_nothing_is_said_without_clones_or_conflicts():
    found = role_separation.separation(row(np.ones((6, 6)), np.zeros((2, 6), int)))
    assert (found.cloned, found.p_conflict) == (0, 1)
    assert math.isnan(found.rand)
    for nothing in (np.nan, 0.0):
        assert role_separation.separation(row(np.full((6, 6), nothing), np.zeros((2, 6), int))) is None


def test_nothing_is_said_of_roles_that_nobody_or_everybody_shares():
    found = {"conflict": np.ones((2, 2)).tolist(), "groups": np.zeros((3, 2), int).tolist()}
    for roles in ([0, 1], [0, 0]):
        assert role_separation.separation({**found, "roles": roles}) is None


def test_many_agents_get_random_arrangements():
    roles = np.arange(27) < 9
    dealt = arrangements(roles)
    assert len(dealt) == role_separation.MOST // 10
    assert {int(d.sum()) for d in dealt} == {9}
    assert permutation_p(lambda r: float(r[:9].sum()), roles) == 1 / len(dealt)


def test_command(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"seed": seed, "env_steps": 0, **row(np.eye(6) * seed, np.zeros((2, 6), int))}) + "\n"
            for seed in (1, 0)
        )
    )
    assert main(["separation", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 0
    assert [entry["seed"] for entry in json.loads((tmp_path / "found.json").read_text())] == [0, 1]
    assert "p_conflict" in capsys.readouterr().out
    (tmp_path / "metrics.jsonl").write_text('{"seed": 0, "env_steps": 0}\n')
    assert main(["separation", str(tmp_path)]) == 2
    assert "separation needs a run trained with --sharing gradps" in capsys.readouterr().err
