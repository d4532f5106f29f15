"""PyMARL's configurations: the equal command, and what has no equal."""

from __future__ import annotations

import shlex

import pytest
import yaml

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.cli.arguments import options
from gpgrad.config import pymarl

# PyMARL's src/config/default.yaml, envs/sc2.yaml and algs/qmix.yaml merged, without entries that only name files.
PYMARL = """
runner: episode
mac: basic_mac
env: sc2
env_args: {difficulty: "7", map_name: 3m}
batch_size_run: 1
test_nepisode: 32
test_interval: 10000
t_max: 2050000
use_cuda: true
gamma: 0.99
batch_size: 32
buffer_size: 5000
lr: 0.0005
optim_alpha: 0.99
optim_eps: 0.00001
grad_norm_clip: 10
agent: rnn
rnn_hidden_dim: 64
obs_agent_id: true
obs_last_action: true
epsilon_start: 1.0
epsilon_finish: 0.05
epsilon_anneal_time: 50000
target_update_interval: 200
learner: q_learner
double_q: true
mixer: qmix
mixing_embed_dim: 32
hypernet_layers: 2
hypernet_embed: 64
name: qmix
"""


def given(**changes):
    return {**yaml.safe_load(PYMARL), **changes}


def test_pymarls_own_settings_are_the_preset():
    found = pymarl.translate(given())
    assert found.words == ["gpgrad", "train", "--env=smac_3m", "--algo=qmix", "--preset=pymarl", "--sharing=fups_id"]
    assert found.missing == []


def test_what_differs_becomes_a_setting():
    found = pymarl.translate(
        given(
            lr=0.001,
            batch_size_run=8,
            optimizer="adam",
            td_lambda=0.6,
            learner="nq_learner",
            mixer="vdn",
            batch_size=128,
        )
    )
    assert found.algo == "vdn"
    assert found.settings["preset"] == "pymarl2"
    assert "learner.lr" not in found.settings  # that of the preset
    made = config.load(found.env, found.algo, found.settings)
    assert (made.rollout.worlds, made.learner.updates_per_episode, made.learner.batch_episodes) == (8, 0.125, 128)
    assert (made.learner.optimiser, made.learner.td_lambda, made.rollout.anneal_steps) == ("adam", 0.6, 50000)
    own = {"mixing_embed_dim": "embed", "hypernet_layers": "hypernet_layers", "hypernet_embed": "hypernet_embed"}
    said = [f"{name} {given()[name]}: vdn has no decomposition.{setting}" for name, setting in own.items()]
    assert found.missing == said


def test_epymarl():
    content = {
        "learner": "q_learner", "mixer": "qmix", "agent": "rnn_ns", "mac": "non_shared_mac", "hidden_dim": 128,
        "target_update_interval_or_tau": 0.01, "standardise_rewards": True, "evaluation_epsilon": 0.0, "lr": 0.0003,
        "env": "gymma", "env_args": {"key": "lbforaging:Foraging-8x8-2p-2f-coop-v3", "time_limit": 50}, "new": 1,
    }  # fmt: skip
    found = pymarl.translate(content)
    assert found.env == "gym_Foraging-8x8-2p-2f-coop-v3"
    assert (found.settings["sharing"], found.settings["agent.hidden"]) == ("nops", 128)
    assert config.load(found.env, found.algo, found.settings).learner.optimiser == "adam"
    assert [line.partition(" ")[0] for line in found.missing] == [
        "standardise_rewards",
        "new",
        "target_update_interval_or_tau",
    ]


@pytest.mark.parametrize(
    ("changes", "algo"),
    [
        ({"mixer": "vdn"}, "vdn"),
        ({"mixer": None}, "iql"),
        ({"mixer": "dmaq", "learner": "dmaq_qatten_learner"}, "qplex"),
        ({"learner": "max_q_learner", "hysteretic_qmix": True, "w": 0.5}, "ow_qmix"),
        ({"learner": "max_q_learner", "hysteretic_qmix": False}, "cw_qmix"),
        ({"mixer": "qtran_base", "learner": "qtran_learner"}, "qtran"),
    ],
)
def test_algorithms(changes, algo):
    found = pymarl.translate(given(**changes))
    assert found.algo == algo
    assert config.load(found.env, found.algo, options(found.words[4:])).decomposition.name == algo


def test_every_setting_that_is_translated_exists():
    known = {
        name for algo in ("qmix", "ow_qmix", "qplex", "qtran", "qatten") for name in config.flat(config.load(algo=algo))
    }
    assert set(pymarl.SAME.values()) <= known


def test_the_command_prints_what_it_would_run(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(given(lr=0.001, use_per=True)))
    assert cli.main(["import-pymarl", str(file), "--env", "battle_3m"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    words = shlex.split(first)
    assert words[:3] == ["gpgrad", "train", "--env=battle_3m"]
    assert "--learner.lr=0.001" in words
    assert second == "# no equal: use_per True: the replay is sampled uniformly"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learner": "coma_learner"}, "learner 'coma_learner' has no equal; must be a value decomposition's"),
        ({"mixer": "graphmix"}, "mixer 'graphmix' has no equal; must be one of"),
        ({"env": "stag_hunt"}, "the environment 'stag_hunt', which has no equal here; pass --env NAME"),
        ({"lr": "fast"}, "lr must be a finite number"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path, capsys, changes, sentence):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(given(**changes)))
    assert cli.main(["import-pymarl", str(file)]) == 2
    assert sentence in capsys.readouterr().err
