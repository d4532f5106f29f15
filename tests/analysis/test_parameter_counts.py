"""Parameter counts: ours by hand, the paper's by its tables."""

from __future__ import annotations

import jax
import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.analysis.parameter_counts import (
    METHODS,
    Sizes,
    account,
    linear,
    paper_agents,
    paper_mixer,
    paper_percent,
    sizes,
)
from gpgrad.envs.api import EnvSpec
from gpgrad.experiments import definition as definitions
from gpgrad.experiments.reporting import tables
from gpgrad.methods.nets.agent import count, make_agent
from gpgrad.methods.nets.heads import Utilities
from gpgrad.methods.sharing import adaps, fups, kaleidoscope, nops, redo, seps, snp
from gpgrad.methods.sharing.gradps import scheme
from gpgrad.types import Context, NetSpec, Returns

MAPS = ["pp_small", "pp_medium", "pp_large", "5m_vs_6m", "MMM2", "27m_vs_30m"]


def half_up(value: float) -> int:
    return int(value + 0.5)


@pytest.mark.parametrize("name", MAPS)
def test_the_papers_tables(oracles, name):
    """Every cell of table 13 and all but two of table 12, which print 180.54 as 180 and 354.75 as 354."""
    inputs, expected = oracles["param_tables_12_13"]["inputs"], oracles["param_tables_12_13"]["expected"]
    row = expected["computed"][name]
    s = Sizes(row["n_agents"], row["agent_input"], row["n_actions"], row["state"], row["K"])
    assert paper_mixer(s) == row["mixer_params"]
    cut = {(place, method) for place, method, *_ in expected["mismatch12"]}
    for column, method in enumerate(METHODS):
        assert paper_agents(method, s) == row["agent_params"][method]
        alone, together = paper_percent(method, s)
        assert alone == pytest.approx(row["table13_percent"][method])
        assert together == pytest.approx(row["table12_percent"][method])
        assert half_up(alone) == inputs["paper13"][name][column]
        assert half_up(together) - inputs["paper12"][name][column] == ((name, method) in cut)
    assert len(cut) == 2


@pytest.mark.parametrize("name", MAPS)
def test_our_counts(oracles, name):
    row = oracles["param_tables_12_13"]["expected"]["computed"][name]
    obs = row["agent_input"] - row["n_actions"]
    told = Context(EnvSpec(name, row["n_agents"], row["n_actions"], obs, 7, 0, 10), NetSpec(), Returns())

    def trained(sharing) -> int:
        agent = make_agent(told.spec, sharing.net, Utilities())
        return count(jax.eval_shape(lambda: sharing.init(jax.random.key(0), agent.init)[0]))

    assert trained(fups.make(told)) == row["honest_fups_live_params"]
    assert trained(scheme.make(told, k=row["K"])) == row["honest_gradps_all_cloned_weight_bias"]
    assert trained(scheme.as_released(told, k=row["K"])) == row["honest_gradps_all_cloned_weight_only"]
    shared, inputs, actions, n = trained(fups.make(told)), row["agent_input"], row["n_actions"], row["n_agents"]
    assert trained(nops.make(told)) == n * shared
    assert trained(seps.make(told, k=row["K"])) == row["K"] * shared
    assert trained(seps.make(told, k=None)) == max(2, n // 2) * shared
    assert trained(snp.make(told)) == trained(adaps.make(told)) == trained(redo.make(told)) == shared
    thresholds = 64 * (inputs + actions)
    assert trained(kaleidoscope.make(told)) == shared + n * thresholds
    assert trained(kaleidoscope.make(told, masks=3)) == shared + 3 * thresholds
    deep = shared + 2 * linear(64, 64)
    assert trained(fups.make_deep(told)) == deep
    published = paper_agents("Kaleidoscope", Sizes(n, inputs, actions, 1, 1)) - 64 * n  # without a layer of ones
    assert trained(kaleidoscope.make_deep(told, masks=3)) == deep + 3 * (thresholds + 2 * 64**2) == published


def test_a_configurations_account(oracles):
    row = oracles["param_tables_12_13"]["expected"]["computed"]["pp_small"]
    settings = config.load("pp_small", "gradps")
    trainable, live, effective = account(settings)
    assert trainable[1:] == live[1:] == (row["honest_gradps_all_cloned_weight_bias"], row["mixer_params"])
    assert effective[1:] == (row["honest_fups_live_params"], row["mixer_params"])
    assert sizes(settings) == Sizes(6, 153, 6, 1200, 2)
    assert sizes(config.load("pp_small", "fups_id")).inputs == 153
    assert sizes(config.load("pp_small", "seps", {"sharing.k": None})).groups == 1


def test_params_prints_both_counts(capsys):
    assert cli.main(["params", "--env", "pp_small", "--algo", "gradps"]) == 0
    printed = capsys.readouterr().out
    for number in ("45,062", "35,206", "336,641", "65,798", "144.8", "105.3"):
        assert number in printed
    assert cli.main(["params", "--algo", "gradps", "--sharing.k", "0"]) == 2
    assert "sharing.k must be at least 1 (got 0)" in capsys.readouterr().err


def test_the_experiment_counts_for_all_six_boards(oracles):
    """Those that can be made here by their configuration, those of StarCraft II by their sizes."""
    definition = definitions.load("gradps_tables_12_13")
    counted = tables.paper(definitions.setups(definition, "quick"), definition.sizes)
    assert list(dict.fromkeys(row[0] for row in counted.rows)) == list(MAPS)
    for world, method, agents, alone, _, together in counted.rows:
        expected = oracles["param_tables_12_13"]["expected"]["computed"][world]
        assert int(agents) == expected["agent_params"][method]
        assert float(alone) == pytest.approx(expected["table13_percent"][method], abs=0.006)
        assert float(together) == pytest.approx(expected["table12_percent"][method], abs=0.006)
