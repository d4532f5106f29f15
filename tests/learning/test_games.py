"""Games whose learned values are known from the papers, ten seeds at once."""

from __future__ import annotations

import numpy as np
import pytest

from gpgrad import config
from gpgrad.program import actors
from tests.systems import start


def trained(env: str, algo: str, iterations: int, **changes):
    settings = config.load(
        env, algo, {"log.wandb": "disabled", **{k.replace("__", "."): v for k, v in changes.items()}}
    )
    built, clock, states = start(settings, list(range(10)))
    _, states = built.chunk(clock, states, iterations)
    return {name: np.asarray(value) for name, value in built.test(actors(states), 0).items()}


def test_vdn_fits_an_additive_game():
    tested = trained("matrix_additive", "vdn", 600)
    assert (tested["payoff_error"] < 1e-3).all()
    wanted = np.add.outer(np.arange(4), np.arange(4))
    np.testing.assert_allclose(tested["payoff_table"], np.broadcast_to(wanted, (10, 4, 4)), atol=0.1)
    assert (tested["test_return"] == 6).all()


@pytest.mark.parametrize(("algo", "value"), [("vdn", 7.0), ("qmix", 8.0)])
def test_two_step_game_separates_vdn_from_qmix(algo, value):
    """Section 5 of the QMIX paper: under uniform exploration VDN takes the safe branch, QMIX the better one."""
    tested = trained("two_step", algo, 800)
    assert (tested["test_return"] == value).all()
    assert tested["returns"].shape == (10, 1)
