"""Host worlds under the trainer: the episodes, rows and teams of the same world in JAX, faults or not."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import __main__ as cli
from gpgrad import config, envs
from gpgrad.analysis import bench
from gpgrad.envs.external.env import seeds_of
from gpgrad.envs.external.process import SimulatorError
from gpgrad.errors import SettingError
from gpgrad.learning import evaluate, external_rollout, iteration
from gpgrad.learning.compose import compose
from gpgrad.learning.external_rollout import Orders
from gpgrad.learning.initial import start_clock
from gpgrad.learning.learner import LearnerState
from gpgrad.learning.program import actors, make_program
from gpgrad.runs import logs
from gpgrad.runs.divergence import Diverged
from gpgrad.training import loop, memory_plan, train
from gpgrad.types import Purpose
from tests.helpers.tiny_runs import one_seed, tiny
from tests.helpers.toy_battle import ToyBattle
from tests.helpers.toy_starcraft import FAULTS, LIMIT, SkirmishSimulator, order

WORLD = "host_tests.helpers.toy_starcraft:SkirmishSimulator"
CARE = {"env__step_seconds": 20.0, "env__failures": 1000, "env__pause_seconds": 0.0}
RUN = {
    "learner__updates_per_episode": 1,
    "rollout__worlds": 2,
    "rollout__anneal_steps": 60,
    "evaluation__episodes": 2,
    "evaluation__final_episodes": 2,
    "evaluation__every_episodes": 10,
    "learner__lr": 0.01,
    "t_max": 150,
    "checkpoint__every_minutes": 1e-9,
}
silent = lambda text: None


def settings(faults: Path | None = None, form: str = "loop", **changes):
    arguments = json.dumps({"faults": str(faults)} if faults else {})
    return tiny("vdn", WORLD, env__form=form, env__arguments=arguments, **{**CARE, **RUN, **changes})


@pytest.fixture(scope="module")
def faults(tmp_path_factory) -> Path:
    """What the workers of `by_loop` are told to do wrong."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def by_loop(faults):
    """Compiled once for all runs here."""
    return make_program(settings(faults))


def run(built, monkeypatch, folder: Path, faults: Path | None = None, **changes) -> train.Result:
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: built)
    return train.run(settings(faults, log__dir=str(folder), log__name="run", **changes), say=silent)


@pytest.fixture(scope="module")
def whole(by_loop, faults, tmp_path_factory):
    """A run in which nothing goes wrong."""
    with pytest.MonkeyPatch.context() as patch:
        return run(by_loop, patch, tmp_path_factory.mktemp("whole"), faults)


def test_a_run_leaves_what_runs_leave(whole):
    assert len(whole.metrics) >= 4
    assert whole.metrics[0]["test_return"] != whole.metrics[-1]["test_return"]
    assert {"test_won", "test_timed_out", "test_dead_allies"} <= set(whole.metrics[0])
    timing = logs.read_rows(whole.run_dir / "timing.jsonl")[-1]
    assert (timing["discarded_episodes"], timing["restarts"], len(timing["worker_mib"])) == (0, 0, 2)
    assert 0 < timing["simulator_share"] < 1
    assert json.loads((whole.run_dir / "manifest.json").read_text())["simulator"] == {"skirmish": "1"}
    again = config.parse(whole.run_dir / "config.yaml")
    assert (again.env.name, again.env.options["failures"]) == (WORLD, 1000)


@pytest.mark.parametrize("form", ["twin", pytest.param("graph", marks=pytest.mark.slow)])
def test_a_twin_in_jax_gives_the_same_rows_and_team(whole, monkeypatch, tmp_path, form):
    """Through workers and a loop, through callbacks inside the jitted program, and without any worker at all."""
    chosen = settings(form="loop" if form == "twin" else form)
    built = make_program(chosen, compose(chosen, ToyBattle() if form == "twin" else None))
    assert built.simulators is None
    other = run(built, monkeypatch, tmp_path)
    for ours, theirs in zip(whole.metrics, other.metrics, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(np.array(ours[name], float), np.array(theirs[name], float), 1e-5, 1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5), whole.params, other.params)


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_faults_change_no_number(by_loop, whole, faults, monkeypatch, tmp_path, times):
    """Each kind so many times in a row, all in one run: the rows are those of a run without any."""
    kinds = [kind for kind in FAULTS if kind != "reset" for _ in range(times)]
    order(faults, kinds)
    pool = by_loop.simulators._env.open
    monkeypatch.setattr(type(by_loop.simulators._env), "open", lambda env, lanes: _impatient(pool(lanes)))
    other = run(by_loop, monkeypatch, tmp_path, faults)
    assert not list(faults.iterdir())
    assert (other.run_dir / "metrics.jsonl").read_bytes() == (whole.run_dir / "metrics.jsonl").read_bytes()
    assert other.final == whole.final
    jax.tree.map(np.testing.assert_array_equal, other.params, whole.params)
    timing = logs.read_rows(other.run_dir / "timing.jsonl")[-1]
    assert timing["restarts"] >= len(kinds)
    assert timing["discarded_episodes"] >= len(kinds)
    assert timing["discarded_steps"] >= len(kinds)
    assert by_loop.simulators._pool is None, "the run has ended its workers"


def _impatient(pool):
    pool.care = pool.care._replace(step_seconds=1.0)
    return pool


def test_a_run_that_stops_goes_on_to_the_same_end(by_loop, whole, faults, monkeypatch, tmp_path):
    visit, count = loop.Saver.visit, 0

    def counted(self, position):
        nonlocal count
        visit(self, position)
        count += 1
        if count == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Saver, "visit", counted)
    with pytest.raises(KeyboardInterrupt):
        run(by_loop, monkeypatch, tmp_path, faults)
    assert by_loop.simulators._pool is None
    monkeypatch.setattr(loop.Saver, "visit", visit)
    again = train.resume(tmp_path / "run", say=silent)
    assert (again.run_dir / "metrics.jsonl").read_bytes() == (whole.run_dir / "metrics.jsonl").read_bytes()
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)


def test_a_world_that_only_fails_ends_the_run_with_its_last_words(faults, by_loop, monkeypatch, tmp_path):
    order(faults, ["crash"] * 9)
    pool = by_loop.simulators._env.open

    def strict(env, lanes):
        opened = pool(lanes)
        opened.care = opened.care._replace(failures=1)
        return opened

    monkeypatch.setattr(type(by_loop.simulators._env), "open", strict)
    with pytest.raises(SimulatorError, match=r"failed 2 times in a row[\s\S]*a crash on demand"):
        run(by_loop, monkeypatch, tmp_path, faults)
    assert by_loop.simulators._pool is None
    for left in faults.iterdir():
        left.unlink()


def test_what_is_stored_is_what_happened(by_loop):
    """Five episodes by two workers, in three waves: each is that of its seed and its actions."""
    states = by_loop.init(jnp.array([3], jnp.int32))
    keys, k_act = evaluate.test_keys(iteration.stream(states.key[0], Purpose.EVALUATE), 5)
    members = jax.tree.map(
        lambda leaf: leaf[None],
        iteration.team(by_loop.parts, one_seed(states.params, 0), one_seed(states.sharing, 0)),
    )
    orders = Orders(external_rollout.seeds(keys)[None], k_act[None], members, jnp.ones(1))
    done = by_loop.simulators.collect(orders)
    again = by_loop.simulators.collect(orders)
    jax.tree.map(np.testing.assert_array_equal, done, again)
    by_loop.simulators.close()
    lengths = done.episodes.valid[0].sum(-1)
    seen = done.episodes.states
    for i, seed in enumerate(seeds_of(np.asarray(orders.seeds))):
        simulator = SkirmishSimulator()
        now, total, infos = simulator.reset(int(seed)), 0.0, np.zeros(4)
        for t in range(LIMIT + 1):
            moment = min(t, lengths[i])
            np.testing.assert_array_equal(seen.obs[0, i, moment], np.array(now.obs))
            np.testing.assert_array_equal(seen.obs[0, i, t], seen.obs[0, i, moment])
            np.testing.assert_array_equal(seen.avail[0, i, moment], np.array(now.avail, bool))
            np.testing.assert_array_equal(seen.state[0, i, moment], now.state)
            if t < lengths[i]:
                out = simulator.step(done.episodes.actions[0, i, t].tolist())
                now, total = out.seen, total + out.reward
                infos += [float(out.info.get(name, 0)) for name in simulator.sizes.info]
                assert done.episodes.reward[0, i, t] == out.reward
                assert done.episodes.terminated[0, i, t] == (t == lengths[i] - 1)  # the limit is an end here
                assert (out.terminated or out.truncated) == (t == lengths[i] - 1)
        assert done.episodes.reward[0, i].sum() == total
        np.testing.assert_array_equal([done.info[name][0, i] for name in simulator.sizes.info], infos)
    assert len({seen.obs[0, i].tobytes() for i in range(5)}) == 5


def test_callbacks_give_the_same_where_collection_stops_when_no_world_runs(by_loop):
    """Calls of simulators from a loop of unknown length inside the jitted program."""
    state = one_seed(by_loop.init(jnp.array([0], jnp.int32)), 0)
    changes = {"env__arguments": '{"ends_early": true}', **RUN}
    chosen = tiny("vdn", WORLD, env__form="graph", **changes)
    parts = compose(chosen)
    assert parts.env.spec.ends_early
    zero = jnp.zeros((), jnp.int32)
    learning = LearnerState(state.params, state.opt_state, state.sharing, state.weighting)
    inside = jax.jit(iteration.make_collection(chosen, parts))(state.key, zero, (), learning, zero)[0]
    keys, k_act, eps = iteration.rollout_keys(chosen, state.key, zero, zero)
    members = iteration.team(parts, state.params, state.sharing)
    orders = jax.tree.map(lambda x: x[None], Orders(external_rollout.seeds(keys), k_act, members, eps))
    outside = one_seed(by_loop.simulators.collect(orders).episodes, 0)
    by_loop.simulators.close()
    assert not outside.valid.all(), "some episode must end before the limit"
    for name in ("states", "reward", "terminated", "valid"):
        jax.tree.map(np.testing.assert_array_equal, getattr(inside, name), getattr(outside, name))
    played = lambda e: np.where(np.asarray(e.valid)[..., None], e.actions, -1)
    np.testing.assert_array_equal(played(inside), played(outside))


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["gpvd_gradps", "dmix"])
def test_methods_and_seeds_run_unchanged(algo):
    """Two seeds side by side with lanes of their own, each as if it were alone."""
    chosen = tiny(algo, WORLD, **{**CARE, **RUN, "evaluation__episodes": 3})
    both, alone = (make_program(config.override(chosen, {"seeds": n})) for n in (2, 1))
    worlds = []
    for built, seeds in ((both, [4, 5]), (alone, [5])):
        clock, states = start_clock(), built.init(jnp.array(seeds, jnp.int32))
        clock, states = built.chunk(clock, states, 4)
        tested = built.test(actors(states), 0)
        assert tested["returns"].shape == (len(seeds), 3)
        worlds.append(states)
        built.simulators.close()
    early = [jax.tree.map(lambda leaf: leaf[:4], one_seed(w.replay, i)) for w, i in zip(worlds, (1, 0), strict=True)]
    np.testing.assert_array_equal(early[0].reward, early[1].reward)
    np.testing.assert_array_equal(early[0].states.obs, early[1].states.obs)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, one_seed(worlds[0].params, 1), one_seed(worlds[1].params, 0))
    assert any((a[0] != a[1]).any() for a in jax.tree.leaves(worlds[0].params))


def test_memory_is_counted_with_what_was_seen(by_loop):
    needs = memory_plan.make_plan(settings(), by_loop)
    seen = (LIMIT + 1) * (2 * 5 * 4 + 2 * 4 + 5 * 4)
    assert needs.episode == seen + LIMIT * (2 + 4 + 1 + 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds_mode": "process"}, "seeds_mode must be vmap or sequential"),
        ({"devices": 2}, "devices must be 1 or none in the external environment"),
        ({"env__form": "graph", "evaluation__final_episodes": 65}, "evaluation.final_episodes is 65 for each of 1 see"),
    ],
)
def test_unsupported_settings_of_external_environments_are_refused(changes, sentence):
    with pytest.raises(SettingError, match=sentence):
        make_program(tiny("vdn", WORLD, **{**RUN, **changes}))


def test_bench_refuses_and_lists_show_the_patterns(capsys):
    with pytest.raises(SettingError, match="bench measures JAX environments only"):
        bench.setup("x", tiny("vdn", WORLD, **RUN))
    assert cli.main(["list", "worlds"]) == 0
    printed = capsys.readouterr().out
    assert "smac_<map>" in printed
    assert "gym_<id>" in printed


def test_seeds_lie_side_by_side_or_in_turn(monkeypatch):
    chosen = config.override(settings(), {"seeds": 2})
    monkeypatch.setattr(memory_plan, "refuse_if_too_big", lambda *args: None)
    monkeypatch.setattr("gpgrad.training.seed_layout.SMALL_WORK", 0)
    monkeypatch.setattr("gpgrad.training.seed_layout.cores", lambda: list(range(8)))
    assert train.prepare(chosen, silent)[2].mode == "vmap"


def test_the_command_line_says_what_is_missing(capsys):
    assert cli.main(["train", "--env", "smac_3m"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("gpgrad: smac_3m needs the package smac")
    assert printed.count("\n") == 1


def test_a_diverged_seed_stops_its_run(by_loop, faults, monkeypatch, tmp_path):
    def init(seeds):
        states = by_loop.init(seeds)
        return states._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, states.params))

    with pytest.raises(Diverged, match="seed 0 after 0 updates"):
        run(by_loop._replace(init=init), monkeypatch, tmp_path, faults)
    assert logs.read_rows(tmp_path / "run" / "final.jsonl") == []
    assert by_loop.simulators._pool is None, "the run has ended its workers"


def test_pixels_are_stored_as_bytes_and_seen_between_0_and_1():
    env = envs.make("host_tests.helpers.toy_starcraft:Faulty", arguments='{"sizes": {"obs_bytes": true}}')
    states = external_rollout.Store(env, 1, 1).rollout().episodes.states  # type: ignore[arg-type]
    assert states.obs.dtype == np.uint8
    state = states._replace(obs=np.array([[51, 255]], np.uint8), avail=np.ones((1, 2), bool))
    view = env.view((), jax.tree.map(jnp.asarray, state))
    np.testing.assert_allclose(view.obs, [[0.2, 1.0]])
    np.testing.assert_allclose(view.state, [0.2, 1.0])
