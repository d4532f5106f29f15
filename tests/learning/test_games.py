"""Games whose learned values are known from the papers, ten seeds at once."""

from __future__ import annotations

import numpy as np
import pytest

from gpgrad import config
from gpgrad.learning.program import actors
from tests.helpers.tiny_runs import start


def trained(env: str, algo: str, iterations: int, seeds: int = 10, **changes):
    settings = config.load(
        env, algo, {"log.wandb": "disabled", **{k.replace("__", "."): v for k, v in changes.items()}}
    )
    built, clock, states = start(settings, list(range(seeds)))
    _, states = built.chunk(clock, states, iterations)
    return {name: np.asarray(value) for name, value in built.test(actors(states), 0).items()}


@pytest.mark.slow
def test_vdn_fits_an_additive_game():
    tested = trained("matrix_additive", "vdn", 600)
    assert (tested["payoff_error"] < 1e-3).all()
    wanted = np.add.outer(np.arange(4), np.arange(4))
    np.testing.assert_allclose(tested["payoff_table"], np.broadcast_to(wanted, (10, 4, 4)), atol=0.1)
    assert (tested["test_return"] == 6).all()


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "value"), [("vdn", 7.0), ("qmix", 8.0)])
def test_two_step_game_separates_vdn_from_qmix(algo, value):
    """Section 5 of the QMIX paper: under uniform exploration VDN takes the safe branch, QMIX the better one."""
    tested = trained("two_step", algo, 800)
    assert (tested["test_return"] == value).all()
    assert tested["returns"].shape == (10, 1)
    start, branch_a, branch_b = (tested[f"payoff_table_{node}"] for node in ("start", "A", "B"))
    assert start.shape == branch_a.shape == branch_b.shape == (10, 2, 2)
    np.testing.assert_allclose(branch_a, 7, atol=1)
    np.testing.assert_allclose(branch_a.mean(0), 7, atol=0.3)
    chosen = tested["utilities_start"][:, 0].argmax(-1)  # agent 0 alone picks the branch
    assert (chosen == (value == 8)).all()
    if algo == "qmix":  # a mixer of the state represents both branches, as in the paper's table
        np.testing.assert_allclose(branch_b.mean(0), [[0, 1], [1, 8]], atol=0.6)
        np.testing.assert_allclose(start.mean(0), [[7, 7], [8, 8]], atol=0.6)


@pytest.mark.parametrize(("algo", "value"), [("gpvd", 8.0), ("qmix", -8.0)])
def test_gpvd_finds_what_interference_hides(algo, value):
    """Figure 3 of the GPVD paper: the best joint action pays 8 and is shielded by -12; QMIX gives its value up."""
    tested = trained("matrix_gpvd", algo, 500, seeds=4)
    table = tested["payoff_table"].reshape(4, -1)
    assert (tested["test_return"] == 8).sum() == (4 if algo == "gpvd" else 0)
    assert ((table.argmax(1) == 0) == (algo == "gpvd")).all()
    assert (np.abs(table[:, 0] - value) < 4).all()
    assert abs(table[:, 0].mean() - value) < 1.5
