"""The checker of environments: one broken environment per finding, and none for a valid one. See test_contract too."""

from __future__ import annotations

import itertools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpgrad
from gpgrad import __main__ as cli
from gpgrad import config, envs
from gpgrad.envs import checking, registry
from gpgrad.envs.api import EnvSpec, OneHot, Step, View
from gpgrad.envs.external.examination import examine
from gpgrad.errors import SettingError
from gpgrad.training import train
from tests.helpers.toy_starcraft import Faulty

A, U, LIMIT = 2, 3, 4
SPEC = EnvSpec("good", A, U, 2, 2, 1, LIMIT)
counter = itertools.count()


class State(NamedTuple):
    time: jax.Array
    luck: jax.Array


class Good:
    """Two agents, whose luck is drawn at the start. Cut at the limit."""

    spec = SPEC

    def params(self, key):
        return ()

    def reset(self, key, params):
        return State(jnp.zeros((), jnp.int8), jax.random.randint(key, (), 0, 9, jnp.int8))

    def step(self, key, params, state, actions):
        time = state.time + jnp.int8(1)
        reward = (actions == actions[0]).all().astype(jnp.float32)
        return Step(state._replace(time=time), reward, jnp.zeros((), bool), time >= LIMIT, {})

    def view(self, params, state):
        row = jnp.stack([state.time, state.luck]).astype(jnp.float32)
        return View(jnp.broadcast_to(row, (A, 2)), jnp.ones((A, U), bool), row)


def world(spec: dict | None = None, step: Any = None, view: Any = None, **functions: Any) -> Any:
    """`Good` with another spec, with parts of what it answers changed, or with other functions."""

    def changed(name, change):
        def function(self, *arguments):
            answer = getattr(Good, name)(self, *arguments)
            other = change(answer, *arguments)
            return answer._replace(**other) if isinstance(other, dict) else other

        return function

    members: dict[str, Any] = dict(functions)
    if spec is not None:
        members["spec"] = SPEC._replace(**spec)
    members |= {name: changed(name, change) for name, change in (("step", step), ("view", view)) if change}
    return type("Broken", (Good,), members)()


def from_outside(reward: jax.Array) -> jax.Array:
    """A number that the key does not decide."""
    more = lambda reward: reward + np.float32(next(counter))
    return jax.pure_callback(more, reward, reward, vmap_method="sequential")


nan = jnp.float32(jnp.nan)
ABSTRACT = [
    (object(), "it has no function params; it must be a gpgrad.envs.api.Env"),
    (type("NoSpec", (Good,), {"spec": (2, 3)})(), "spec must be a gpgrad.envs.api.EnvSpec"),
    (world({"n_agents": 2.0}), "spec.n_agents must be a whole number of 1 or more"),
    (world({"episode_limit": 0}), "spec.episode_limit must be a whole number of 1 or more \\(got 0\\)"),
    (world({"n_actions": 200}), "spec.n_actions must be at most 127"),
    (world({"own_state_dim": 2}), "spec.own_state_dim must be between 0 and"),
    (world({"return_scale": 0.0}), "spec.return_scale must be a finite number greater than 0 \\(got 0.0\\)"),
    (world({"has_win": None}), "spec.has_win must be True or False"),
    (world({"obs_sizes": (1, 1)}), "spec.obs_sizes must be 2 sizes whose largest is 2"),
    (world(params=lambda self, key: 1 / 0), "params must work under jax.jit \\(it raises ZeroDivisionError"),
    (
        world(reset=lambda self, key, params: State(0, int(jax.random.bits(key)))),
        "reset must work under jax.jit \\(it raises ConcretizationTypeError",
    ),
    (world({"obs_dim": 3}), "view.obs must be float32 \\[2, 3\\] \\(got float32 \\[2, 2\\]\\)"),
    (world({"state_dim": 3}), "view.state must be float32 \\[3\\]"),
    (world(view=lambda v, p, s: {"avail": jnp.ones((A, U))}), "view.avail must be bool \\[2, 3\\] \\(got float32"),
    (world(view=lambda v, p, s: tuple(v)), "view must return a gpgrad.envs.api.View \\(got a tuple\\)"),
    (world(view=lambda v, p, s: {"obs": None}), "view.obs must be float32"),
    (
        world(view=lambda v, p, s: {"state": OneHot(s.luck[None], 9)}),
        "the size of view.state must be spec.state_dim = 2 \\(got 9\\)",
    ),
    (
        world(view=lambda v, p, s: {"state": OneHot(s.luck[None].astype(jnp.uint8), 2)}),
        "index must be signed integers that reach spec.state_dim = [0-9]+ \\(got uint8",
    ),
    (world(step=lambda s, *_: tuple(s)), "step must return a gpgrad.envs.api.Step \\(got a tuple\\)"),
    (world(step=lambda s, *_: {"reward": s.reward[None]}), "step.reward must be float32 \\[\\]"),
    (world(step=lambda s, *_: {"reward": jnp.int32(1)}), "step.reward must be float32"),
    (
        world(step=lambda s, *_: {"terminated": jnp.zeros(A, bool)}),
        "step.terminated must be bool \\[\\] \\(got bool \\[2\\]",
    ),
    (world(step=lambda s, *_: {"truncated": jnp.float32(0)}), "step.truncated must be bool"),
    (
        world(step=lambda s, *_: {"state": s.state._replace(time=jnp.int32(1))}),
        "state.time is int32 .* must be as",
    ),
    (world(step=lambda s, *_: {"state": s.state._replace(luck=jnp.zeros(2, jnp.int8))}), "state.luck is int8 \\[2\\]"),
    (world(step=lambda s, *_: {"state": (s.state,)}), "the state must have the same structure"),
    (world(step=lambda s, *_: {"info": [1]}), "step.info must be a dict"),
    (world({"has_win": True}), "step.info must have won exactly if spec.has_win is true \\(it has no won"),
    (world(roles=lambda self, params: jnp.zeros(3, jnp.int32)), "roles must be int32 \\[2\\]"),
]
PLAYED = [
    (
        world(view=lambda v, p, s: {"obs": jnp.where(s.time > 1, nan, v.obs)}),
        "view.obs must be finite",
    ),
    (world(view=lambda v, p, s: {"state": v.state / s.time}), "view.state must be finite"),
    (
        world(view=lambda v, p, s: {"avail": v.avail & (s.time < 2)}),
        "view.avail must have at least one action for each agent",
    ),
    (
        world(view=lambda v, p, s: {"state": OneHot(s.luck[None].repeat(2) % 2, 2)}),
        "view.state.index must have distinct positions",
    ),
    (world(step=lambda s, *_: {"reward": s.reward / 0}), "step.reward must be finite"),
    (world(step=lambda s, *_: {"truncated": jnp.zeros((), bool)}), "must end within spec.episode_limit = 4 steps"),
    (world(step=lambda s, *_: {"terminated": s.truncated}), "step.terminated and step.truncated must not both be true"),
    (
        world({"has_win": True}, step=lambda s, *_: {"info": {"won": ~s.truncated}}),
        "won'\\] must be true only at the winning step",
    ),
    (world({"action_counts": (3, 2)}), "view.avail must offer agent 1 only the 2 actions"),
    (world({"obs_sizes": (2, 1)}), "view.obs of agent 1 must be zero beyond the 1 entries"),
    (world(view=lambda v, p, s: {"obs": v.obs + next(counter)}), "view gives two results for one state"),
    (world(step=lambda s, *_: {"reward": s.reward + next(counter)}), "step or view gives other results under jax.vmap"),
    (world(step=lambda s, *_: {"reward": from_outside(s.reward)}), "the same key gives two different episodes"),
]


@pytest.mark.parametrize(("broken", "sentence"), ABSTRACT, ids=[sentence[:40] for _, sentence in ABSTRACT])
def test_shapes_alone(broken, sentence, monkeypatch):
    """Nothing is compiled for these."""
    monkeypatch.setattr(checking, "make_player", None)
    with pytest.raises(SettingError, match=sentence):
        checking.refuse(broken)


@pytest.mark.parametrize(("broken", "sentence"), PLAYED, ids=[sentence[:40] for _, sentence in PLAYED])
def test_episodes(broken, sentence):
    with pytest.raises(SettingError, match=sentence):
        checking.refuse(broken)


class Drawn(Good):
    """Keeps a random key in its state."""

    def reset(self, key, params):
        return State(jnp.zeros((), jnp.int8), key)

    def view(self, params, state):
        luck = jax.random.uniform(state.luck)
        return Good.view(self, params, state._replace(luck=luck))


def test_good_worlds_have_no_findings():
    report = checking.examine(world())
    assert report.findings == []
    assert report.summary.startswith(
        "good: 2 agents, 3 actions, observations of 2, state of 2; 4 episodes, 0 terminated and 4"
    )
    assert gpgrad.check_env(Drawn()) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"changes": {"reward": 1e300}}, "after step 2 the reward must be finite as float32"),
        ({"changes": {"obs": [[0.0]]}}, "after step 2 the observation must have the shape (1, 2) (got (1, 1))"),
        ({"changes": {"avail": [[0, 0]]}}, "after step 2 no action is available to agents [0]"),
        ({"changes": {"terminated": [False]}}, ""),
        (
            {"changes": {"terminated": [True, False]}},
            "after step 2 terminated must be True or False (got [True, False])",
        ),
        ({"changes": {"raises": "a bad day"}}, "step 2 raises RuntimeError: a bad day ("),
        ({"limit": 2}, "an episode goes on after episode_limit, 2 steps"),
        ({}, ""),
    ],
)
def test_simulators_are_examined_by_what_the_trainer_stores(settings, sentence):
    result = examine(Faulty(**settings))
    assert [finding[: len(sentence)] for finding in result["findings"]] == ([sentence] if sentence else [])
    if not sentence:
        assert (result["episodes"], result["cut"], result["ended"], result["steps"]) == (4, 4, 0, 4 * LIMIT)


@pytest.fixture
def registered(monkeypatch):
    """Registers a world of a plugin, and forgets it."""
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))
    return lambda make: envs.register("mine", make, "mine")


HOST = "host_tests.helpers.toy_starcraft:Faulty"


def test_the_command_prints_findings_or_a_summary(registered, capsys):
    registered(lambda: world({"obs_dim": 3}))
    assert cli.main(["check", "mine"]) == 1
    assert capsys.readouterr().out == "mine: view.obs must be float32 [2, 3] (got float32 [2, 2])\n"
    broken = json.dumps({"changes": {"reward": [1, 2]}})
    assert cli.main(["check", HOST, "--env.arguments", broken]) == 1
    assert "after step 2 the reward must be a single number (got the shape (2,))" in capsys.readouterr().out
    assert cli.main(["check", HOST, "--env.arguments", json.dumps({"sizes": {"own_state_dim": 9}})]) == 1
    assert "spec.own_state_dim must be between 0 and state_dim / n_agents = 2" in capsys.readouterr().out
    assert cli.main(["check", HOST]) == 0
    assert "4 episodes, 0 terminated and 4 truncated, 16 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["check"], "check needs an environment"),
        (["check", "pp_smal"], "unknown environment 'pp_smal'; did you mean 'pp_small'?"),
        (["check", "pp_small", "--lr", "1"], "unknown option --lr; valid names are plugin, env.*"),
        (["check", "mine"], "the environment mine cannot be built: ZeroDivisionError: division by zero"),
    ],
)
def test_mistakes_of_the_command(registered, capsys, command, sentence):
    registered(lambda: 1 / 0)
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "answer", [None, 3, "world", world({"obs_dim": 3}), world(reset=lambda self, key, params: None)]
)
@pytest.mark.parametrize("command", ["train --algo vdn", "bench --algos vdn,qmix", "params --algo vdn", "occupancy"])
def test_a_broken_environment_is_refused_before_anything_compiles(
    registered, monkeypatch, tmp_path, capsys, answer, command
):
    registered(lambda: answer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "make_program", None)
    name, *words = command.split()
    assert cli.main([name, "--env", "mine", *words]) == 2
    error = capsys.readouterr().err
    assert "breaks the contract of gpgrad.envs.api: " in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_factory_is_named(registered):
    registered("no_such_module:World")
    with pytest.raises(SettingError, match="the environment 'no_such_module:World' cannot be imported"):
        config.load("mine", "vdn")


def test_worlds_of_the_package_are_not_checked_when_they_are_trained():
    assert envs.is_built_in("pp_small")
    assert not envs.is_built_in(HOST)
