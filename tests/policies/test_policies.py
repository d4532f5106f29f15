"""Trained teams taken away: acting, arrays for NumPy, other worlds, going on from them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import gpgrad
from gpgrad import __main__ as cli
from gpgrad import config, envs
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning import initial
from gpgrad.learning.compose import compose
from gpgrad.learning.iteration import stream, team
from gpgrad.learning.program import Actor, actors, make_program
from gpgrad.learning.rollout import make_collect
from gpgrad.methods import registry
from gpgrad.policies import export, policy
from gpgrad.policies.load import TrainedTeam
from gpgrad.training import checkpoint, loop, recorder, warm_start
from gpgrad.types import Params, Purpose
from tests.helpers.tiny_runs import BOARD, TINY, one_seed, tiny

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
JAX, NUMPY = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
SMALL = [f"--{name}={value}" for name, value in {**TINY, **BOARD, "t_max": 60, "evaluation.every_steps": 30}.items()]


def shaken(tree, key):
    """As training leaves parameters: nothing is equal that could differ."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, moved)


def cloned(settings: Config, sharing):
    """Agents dealt to clones at random, where the scheme has clones."""
    if settings.sharing.name != "gradps":
        return sharing
    rng, layers = np.random.default_rng(0), []
    for layer in sharing.layers:
        assign = jnp.asarray(rng.integers(0, 2, layer.life.assign.shape), jnp.int32)
        layers.append(layer._replace(life=layer.life._replace(assign=assign)))
    return sharing._replace(layers=tuple(layers))


def fresh(settings: Config, seed: int = 0) -> TrainedTeam:
    """A team that was never on a disk."""
    parts, key = compose(settings), jax.random.key(seed)
    params, sharing = parts.sharing.init(key, parts.agent.init)
    made = Actor(None, Params(shaken(params, key), {}), cloned(settings, sharing), key)
    return TrainedTeam(seed, settings, parts, made, None)


@pytest.fixture
def without_sums(monkeypatch):
    """Sums of metrics are left out of the states: finding their names would trace an iteration."""
    monkeypatch.setattr(initial, "make_stats", lambda settings, parts: lambda *args: {})


@pytest.fixture(scope="module")
def settings() -> Config:
    return tiny("gradps", seeds=2, seed=3, t_max=600, evaluation__every_episodes=20)


@pytest.fixture(scope="module")
def program(settings):
    return make_program(settings)


@pytest.fixture(scope="module")
def actor(settings, program) -> Actor:
    fresh = actors(program.init(jnp.array([3, 4], jnp.int32)))
    sharing = cloned(settings, fresh.sharing)
    return fresh._replace(params=shaken(fresh.params, jax.random.key(9)), sharing=sharing)


@pytest.fixture(scope="module")
def run(settings, actor, tmp_path_factory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    recorder.describe_run(settings, folder)
    checkpoint.save_team(folder, actor)
    return folder


def test_a_policy_acts_as_its_team_did_in_tests(run, program, actor):
    parts, own = program.parts, one_seed(actor, 1)
    collect = jax.jit(make_collect(parts.env, parts.agent, parts.decomposition))
    keys = jax.random.split(jax.random.key(0), 2)
    members = team(parts, own.params, own.sharing)
    episodes = collect(keys, keys[0], own.env_params, members, jnp.zeros(())).episodes
    views = jax.vmap(jax.vmap(parts.env.view, (None, 0)), (None, 0))(own.env_params, episodes.states)
    acting = gpgrad.load_policy(run, seed=4)
    act, carry = jax.jit(acting.act), acting.init(2)
    for t in range(parts.env.spec.episode_limit):
        actions, carry = act(carry, views.obs[:, t], views.avail[:, t])
        np.testing.assert_array_equal(actions, episodes.actions[:, t])
    assert len(np.unique(episodes.actions)) > 1
    other, _ = jax.jit(gpgrad.load_policy(run).act)(acting.init(2), views.obs[:, 0], views.avail[:, 0])
    assert other.shape == (2, 3)
    explored, _ = act(acting.init(2), views.obs[:, 0], views.avail[:, 0], jax.random.key(1), 1.0)
    assert jnp.take_along_axis(views.avail[:, 0], explored[..., None], -1).all()


@pytest.mark.parametrize(
    ("algo", "changes"),
    [
        ("gradps", {"agent__agent_id": False}),
        pytest.param("snp", {"agent__layers": 2, "sharing__ratio": 0.5}, marks=pytest.mark.slow),
        pytest.param("kaleidoscope_deep", {}, marks=pytest.mark.slow),
        pytest.param("vdn_nops", {"agent__last_action": False}, marks=pytest.mark.slow),
        # As many draws as make their mean that of all quantiles.
        pytest.param("ddn", {"decomposition__acting_fractions": 4096}, marks=pytest.mark.slow),
    ],
)
def test_numpy_does_as_jax_does(algo, changes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = fresh(tiny(algo, **changes))
    export.write(source, Path("team.npz"))
    assert NUMPY.strip().count("\n") <= 24  # twenty lines, and blank ones
    code: dict = {}
    exec(NUMPY, code)
    spec, acting, rng = source.parts.env.spec, policy.make_policy(source), np.random.default_rng(1)
    act, carry = jax.jit(acting.act), acting.init(4)
    hidden, last = np.zeros((4, spec.n_agents, carry_width(carry)), np.float32), np.full((4, spec.n_agents), -1)
    seen = set()
    for _ in range(6):
        obs = rng.normal(size=(4, spec.n_agents, spec.obs_dim)).astype(np.float32)
        avail = rng.random((4, spec.n_agents, spec.n_actions)) < 0.7
        avail[..., 0] = True
        actions, carry = act(carry, obs, avail)
        own, hidden = code["act"](obs, avail, hidden, last)
        same = np.mean(own == np.asarray(actions))
        assert same > 0.9 if algo == "ddn" else same == 1, f"{same}"
        np.testing.assert_allclose(hidden, carry.agents.hidden, atol=1e-5)
        last, seen = np.asarray(actions), seen | set(own.ravel().tolist())
    assert len(seen) > 2
    assert {array.dtype for name, array in code["team"].items() if name != "meta"} == {np.dtype("float32")}


def carry_width(carry) -> int:
    return carry.agents.hidden.shape[-1]


def test_safetensors_say_the_same(run, tmp_path, capsys):
    for name in ("team.npz", "team.safetensors"):
        assert cli.main(["export", str(run), "--out", str(tmp_path / name), "--seed", "4"]) == 0
    assert "seed 4 of" in capsys.readouterr().out
    one, other = dict(np.load(tmp_path / "team.npz")), load_file(tmp_path / "team.safetensors")
    meta = json.loads(str(one.pop("meta")))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert (meta["world"], meta["algorithm"], meta["seed"], meta["n_agents"]) == ("pp_small", "gradps", 4, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export"], "export needs the folder of a run"),
        (["export", "RUN"], "export needs --out, a name ending in .npz or .safetensors"),
        (["export", "RUN", "--out", "x.pt"], "--out must be a file that ends with .npz or .safetensors"),
        (["export", "RUN", "--out", "x.npz", "--seed", "0"], "seed must be one that"),
        (["eval", "RUN", "--env.penalti", "1"], "unknown setting 'env.penalti'; did you mean 'env.penalty'?"),
        (["eval", "RUN", "--learner.lr", "1"], "unknown option --learner.lr"),
        (
            ["eval", "RUN", "--env.view_radius", "2"],
            "does not fit here: params.agent.fc1.kernel must be float32 [2, 81, 8] (got float32 [2, 33, 8])",
        ),
    ],
)
def test_mistakes_get_one_sentence(run, capsys, arguments, sentence):
    assert cli.main([str(run) if word == "RUN" else word for word in arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_rmix_is_refused():
    with pytest.raises(SettingError, match="the policies of rmix are more than a network"):
        export.policies(fresh(tiny("rmix")))


def test_a_changed_world_is_drawn_anew_and_the_team_stays(run, program, actor):
    same = warm_start.load_into(run, program, 2)
    assert same.params is not actor.params
    np.testing.assert_array_equal(jax.tree.leaves(same.env_params)[0], jax.tree.leaves(actor.env_params)[0])
    changed = config.override(warm_start.finished(run), {"env.n_special": "2", "env.penalty": "-1"})
    other = warm_start.load_into(run, make_program(changed), 2)
    assert int(jnp.sum(jax.tree.leaves(other.env_params)[0])) == 2 * int(jnp.sum(jax.tree.leaves(same.env_params)[0]))
    np.testing.assert_array_equal(other.params.agent.head["kernel"], actor.params.agent.head["kernel"])


def test_training_goes_on_from_a_team(run, program, actor):
    after = tiny("gradps", seeds=1, seed=4, init_from=str(run), env__penalty=-1.0)
    built = make_program(after)
    warm_start.check_start(after, built)
    states = loop.begin(after, built).states
    for tree in (states.params, states.target):
        jax.tree.map(np.testing.assert_array_equal, one_seed(tree, 0), one_seed(actor.params, 1))
    np.testing.assert_array_equal(states.sharing.layers[0].life.assign[0], actor.sharing.layers[0].life.assign[1])
    assert int(states.env_steps[0]) == 0
    world = built.parts.env.params(stream(states.key[0], Purpose.WORLD))
    jax.tree.map(np.testing.assert_array_equal, one_seed(states.env_params, 0), world)


@pytest.mark.parametrize("sharing", registry.names("sharing"))
def test_every_scheme_goes_on_from_a_team(without_sums, sharing):
    """Also those without a state, whose tree has no leaf for `jax.vmap` to count seeds by. By shape alone."""
    goes_on(sharing=sharing)


@pytest.mark.parametrize("decomposition", registry.names("decomposition"))
def test_every_decomposition_goes_on_from_a_team(without_sums, decomposition):
    goes_on(decomposition=decomposition)


def goes_on(**parts) -> None:
    """States of the same shapes and dtypes before and after two seeds get the teams of two others."""
    early = {"sharing__episodes": 4} if "episodes" in registry.options("sharing", parts.get("sharing", "fups")) else {}
    chosen = tiny(parts.get("decomposition", "vdn"), **parts, **early, rollout__worlds=1)
    composed = compose(chosen)
    init = jax.vmap(initial.make_init(chosen, composed))
    states = jax.eval_shape(init, jnp.arange(2, dtype=jnp.int32))
    after = jax.eval_shape(
        lambda s: warm_start.begin_again(composed, s, s.params, s.sharing, jnp.array([1, 0])), states
    )
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.all(jax.tree.map(same, states, after))


def test_a_scheme_without_a_state_goes_on_from_a_folder(tmp_path):
    source = tiny("vdn", seeds=1)
    team = actors(make_program(source).init(jnp.array([0], jnp.int32)))
    assert not jax.tree.leaves(team.sharing)
    recorder.describe_run(source, tmp_path)
    checkpoint.save_team(tmp_path, team._replace(params=shaken(team.params, jax.random.key(2))))
    after = tiny("vdn", seeds=1, init_from=str(tmp_path))
    built = make_program(after)
    warm_start.check_start(after, built)
    states = loop.begin(after, built).states
    jax.tree.map(np.testing.assert_array_equal, states.params, shaken(team.params, jax.random.key(2)))


@pytest.mark.parametrize(
    ("algo", "changes", "sentence"),
    [
        (
            "gradps",
            {"seed": 0},
            r"must have one team, or one for each of the seeds 0 to \d \(got seeds 3 to 4 in ",
        ),
        (
            "gradps",
            {"seed": 3, "agent__hidden": 16},
            "params.agent.fc1.bias must be float32 \\[2, 16\\] \\(got float32 \\[2, 8\\]\\)",
        ),
        ("qmix", {"seed": 3}, "params.agent.fc1.bias must be float32 \\[8\\] \\(got float32 \\[2, 8\\]\\)"),
        ("vdn_gradps", {"seed": 3}, "params.decomposition.* must be absent"),
    ],
)
def test_a_start_that_does_not_fit_names_the_first_mismatch(run, algo, changes, sentence):
    after = tiny(algo, init_from=str(run), **changes)
    with pytest.raises(SettingError, match=sentence):
        warm_start.check_start(after, make_program(after))


def test_a_start_is_part_of_what_a_run_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"runs/{name}/team").mkdir(parents=True)
        Path(f"runs/{name}/team/arrays").write_text(name)
    plain, after, other = (
        config.load("pp_small", "qmix", {"init_from": name}) for name in ("none", "runs/a", "runs/b")
    )
    assert plain.init_from is None
    assert len({config.identity(each) for each in (plain, after, other)}) == 3


@pytest.mark.slow
def test_the_document_in_order(tmp_path, monkeypatch, capsys):
    """Its commands on a small board, and its code where it stands; what goes on from the team is only prepared."""
    monkeypatch.chdir(tmp_path)
    lengths = ("--t_max", "3000", "--evaluation.every_steps", "1500")
    for command in COMMANDS:
        words = [word for word in shlex.split(command) if word not in lengths]
        assert words[0] == "gpgrad"
        if "--init-from" in words:
            monkeypatch.setattr("gpgrad.training.train.finish", lambda *_: None)
        assert cli.main([*words[1:], *(SMALL if words[1] == "train" else [])]) == 0, command
    code: dict = {}
    exec(JAX.replace("envs.make(", "small("), {"small": small}, code)
    assert code["actions"].shape == (1, 3)
    exec(NUMPY, code)
    assert code["meta"]["algorithm"] == "gradps"


def small(name: str):
    return envs.make(
        name, **{key.removeprefix("env."): value for key, value in BOARD.items() if key.startswith("env.")}
    )
