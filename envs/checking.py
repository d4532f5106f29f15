"""Checks whether an environment keeps the contract of `gpgrad.envs.api`; one sentence per violation.

JAX environments are traced for shapes and dtypes, then a few episodes of random available actions are played, which
compiles two programs. A worker checks external environments, see `gpgrad.envs.external.examination`.

Axes in comments: T time; W lanes, each an episode; A agents; U actions.
"""

from __future__ import annotations

import math
import numbers
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs import registry
from gpgrad.envs.api import Env, EnvSpec, OneHot, Step, View
from gpgrad.envs.external.env import ExternalEnv
from gpgrad.envs.external.process import examined
from gpgrad.errors import SettingError

LANES, STEPS = 4, 256  # episodes, and the maximum number of steps of each
MOST_ACTIONS = 127  # the replay stores actions as int8
TOLERANCE = 1e-4  # relative and absolute, between programs that XLA compiles differently
RARE = 0.02  # fraction of steps in which such a difference may flip a comparison


class Report(NamedTuple):
    """findings: a sentence each. summary: the sizes, the episodes played and the time."""

    findings: list[str]
    summary: str


class Play(NamedTuple):
    """Episodes of several lanes, continued after their ends. Leaves [T, W, ...].

    states: before each step. views, again: of these states, seen twice. keys, actions: given to each step.
    """

    states: Any
    views: View
    repeated: View
    keys: jax.Array
    actions: jax.Array
    steps: Step


class _Broken(Exception):
    """A violation that prevents further checks."""


def check_env(env: Env) -> list[str]:
    """The violations of the contract, a sentence each; empty if there are none. Never raises."""
    return examine(env).findings


def refuse(env: Env) -> None:
    """Raise SettingError with the first violation, if there is one."""
    if found := check_env(env):
        name = getattr(getattr(env, "spec", None), "name", type(env).__name__)
        more = f" (the first of {len(found)} findings of gpgrad check)" if len(found) > 1 else ""
        raise SettingError(f"the environment {name} breaks the contract of gpgrad.envs.api: {found[0]}{more}")


def refuse_named(name: str, options: Mapping[str, Any]) -> None:
    """As `refuse`, of an environment by its name and options. Those of the package are tested and not checked."""
    if not registry.is_built_in(name):
        refuse(registry.make(name, **options))


def examine(env: Env) -> Report:
    """Run all checks of an environment."""
    began = time.perf_counter()
    try:
        spec = _spec(env)
        if found := sizes(spec):
            return Report(found, "")
        found, played = _external(env) if isinstance(env, ExternalEnv) else _pure(env)
    except _Broken as broken:
        return Report([str(broken)], "")
    size = (
        f"{spec.n_agents} agents, {spec.n_actions} actions, observations of {spec.obs_dim}, state of {spec.state_dim}"
    )
    return Report(found, f"{spec.name}: {size}; {played}; {1000 * (time.perf_counter() - began):.0f} ms")


def sizes(spec: EnvSpec) -> list[str]:
    """Violations in a spec."""
    found = []
    for name in ("n_agents", "n_actions", "obs_dim", "state_dim", "episode_limit"):
        if not _is_whole(getattr(spec, name)) or getattr(spec, name) < 1:
            found.append(f"spec.{name} must be a whole number of 1 or more (got {getattr(spec, name)!r})")
    for name in ("limit_is_terminal", "has_win", "ends_early"):
        if not isinstance(getattr(spec, name), bool):
            found.append(f"spec.{name} must be True or False (got {getattr(spec, name)!r})")
    if found:
        return found
    if spec.n_actions > MOST_ACTIONS:
        found.append(f"spec.n_actions must be at most {MOST_ACTIONS}, since int8 stores actions (got {spec.n_actions})")
    own = spec.own_state_dim
    if not _is_whole(own) or not 0 <= own * spec.n_agents <= spec.state_dim:
        most = spec.state_dim // spec.n_agents
        found.append(f"spec.own_state_dim must be between 0 and state_dim / n_agents = {most} (got {own!r})")
    if not isinstance(spec.return_scale, numbers.Real) or not 0 < spec.return_scale < math.inf:
        found.append(f"spec.return_scale must be a finite number greater than 0 (got {spec.return_scale!r})")
    for name, most in (("obs_sizes", spec.obs_dim), ("action_counts", spec.n_actions)):
        each = getattr(spec, name)
        if each and (len(each) != spec.n_agents or not all(map(_is_whole, each)) or min(each) < 1 or max(each) != most):
            found.append(f"spec.{name} must be {spec.n_agents} sizes whose largest is {most}, or empty (got {each})")
    return found


def shapes(env: Env) -> list[str]:
    """Violations in shapes and dtypes of a JAX environment, found by tracing alone."""
    try:
        return _shapes(env)
    except _Broken as broken:
        return [str(broken)]


def play(env: Env, keys: jax.Array, player: Callable[[jax.Array], Play] | None = None) -> Play:
    """Random episodes from keys [W], as NumPy arrays. player: the result of `make_player`."""
    return jax.device_get(jax.tree.map(_plain, (player or make_player(env))(keys)))


def make_player(env: Env) -> Callable[[jax.Array], Play]:
    """A jitted function that plays one episode for each of keys [W]."""

    def episode(params: Any, key: jax.Array) -> Any:
        k_reset, k_steps = jax.random.split(key)

        def step(state: Any, key: jax.Array) -> Any:
            k_action, k_step = jax.random.split(key)
            view, repeated = env.view(params, state), env.view(params, state)
            scores = jnp.where(view.avail, jax.random.uniform(k_action, view.avail.shape), -1.0)
            actions = jnp.argmax(scores, -1)
            after = env.step(k_step, params, state, actions)
            return after.state, (state, view, repeated, jax.random.key_data(k_step), actions, after)

        steps = min(env.spec.episode_limit, STEPS)
        return jax.lax.scan(step, env.reset(k_reset, params), jax.random.split(k_steps, steps))[1]

    def run(keys: jax.Array) -> Play:
        params = env.params(jax.random.key(0))
        return Play(*jax.vmap(lambda key: episode(params, key), 0, 1)(keys))

    return jax.jit(run)


def judge(env: Env, player: Callable[[jax.Array], Play], keys: jax.Array, done: Play) -> list[str]:
    """Violations in the episodes `done`, which a player returned for keys [W]."""
    found = _values(env.spec, done) + _ends(env.spec, done)
    if _differing(done.views, done.repeated):
        found.append("view gives two results for one state; it must be a pure function")
    order = np.roll(np.arange(len(keys)), 1)
    other = play(env, keys[order], player)
    here = (done.states, done.views, done.steps)
    if _differing(jax.tree.map(lambda leaf: leaf[:, order], here), (other.states, other.views, other.steps)):
        found.append(
            "the same key gives two different episodes; results must depend on the arguments alone, not on other lanes"
        )
    lone, rows = _alone(env, done), jax.tree.map(lambda leaf: leaf[:, 0], (done.views, done.steps))
    if _differing(lone, rows, TOLERANCE) > RARE:
        found.append("step or view gives other results under jax.vmap than under jax.jit alone, from the same state")
    return found


def _spec(env: Any) -> EnvSpec:
    """The spec of what may be anything."""
    for name in ("params", "reset", "step", "view"):
        if not callable(getattr(env, name, None)):
            raise _Broken(f"it has no function {name}; it must be a gpgrad.envs.api.Env")
    try:
        spec = env.spec
    except Exception as error:
        raise _Broken(f"spec raises {_described(error)}") from error
    if not isinstance(spec, EnvSpec):
        raise _Broken(f"spec must be a gpgrad.envs.api.EnvSpec (got a {type(spec).__name__})")
    return spec


def _external(env: ExternalEnv) -> tuple[list[str], str]:
    result = examined(env.order, env.reset_seconds)
    return (
        result.findings,
        f"{result.episodes} episodes, {result.ended} terminated and {result.cut} truncated, {result.steps} steps",
    )


def _pure(env: Env) -> tuple[list[str], str]:
    if found := _shapes(env):
        return found, ""
    keys = jax.random.split(jax.random.key(1), LANES)
    try:
        player = make_player(env)
        done = play(env, keys, player)
        found = judge(env, player, keys, done)
    except Exception as error:
        raise _Broken(f"an episode raises {_described(error)}") from error
    alive = _alive(done.steps)
    ended, cut = (int((alive & flag).any(0).sum()) for flag in (done.steps.terminated, done.steps.truncated))
    return found, f"{LANES} episodes, {ended} terminated and {cut} truncated, {int(alive.sum())} steps"


def _shapes(env: Env) -> list[str]:
    spec, key = env.spec, jax.random.key(0)
    a, u = spec.n_agents, spec.n_actions
    params = _traced("params", env.params, key)
    state = _traced("reset", env.reset, key, params)
    view = _traced("view", env.view, params, state)
    if not isinstance(view, View):
        raise _Broken(f"view must return a gpgrad.envs.api.View (got a {type(view).__name__})")
    found = _wrong("view.obs", view.obs, (a, spec.obs_dim), jnp.float32)
    found += _wrong("view.avail", view.avail, (a, u), jnp.bool)
    found += _wrong_state(view.state, spec.state_dim)
    for dtype in (jnp.int32, jnp.int8):
        step = _traced("step", env.step, key, params, state, jax.ShapeDtypeStruct((a,), dtype))
        if not isinstance(step, Step):
            raise _Broken(f"step must return a gpgrad.envs.api.Step (got a {type(step).__name__})")
        found += _wrong("step.reward", step.reward, (), jnp.float32)
        for name in ("terminated", "truncated"):
            found += _wrong(f"step.{name}", getattr(step, name), (), jnp.bool)
        found += _changed(state, step.state) + _wrong_info(spec, step.info)
    if hasattr(env, "roles"):
        found += _wrong("roles", _traced("roles", env.roles, params), (a,), jnp.int32)  # type: ignore[attr-defined]
    return list(dict.fromkeys(found))


def _traced(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        raise _Broken(f"{name} must work under jax.jit (it raises {_described(error)})") from error


def _wrong(what: str, leaf: Any, shape: tuple[int, ...], dtype: Any) -> list[str]:
    wanted = f"{jnp.dtype(dtype)} {list(shape)}"
    if not hasattr(leaf, "dtype"):
        return [f"{what} must be {wanted} (got a {type(leaf).__name__})"]
    same = (leaf.shape, leaf.dtype) == (shape, jnp.dtype(dtype))
    return [] if same else [f"{what} must be {wanted} (got {leaf.dtype} {list(leaf.shape)})"]


def _wrong_state(state: Any, size: int) -> list[str]:
    if not isinstance(state, OneHot):
        return _wrong("view.state", state, (size,), jnp.float32)
    if state.size != size:
        return [f"the size of view.state must be spec.state_dim = {size} (got {state.size})"]
    if not jnp.issubdtype(state.index.dtype, jnp.signedinteger) or jnp.iinfo(state.index.dtype).max < size:
        return [
            f"view.state.index must be signed integers that reach spec.state_dim = {size} (got {state.index.dtype})"
        ]
    return []


def _wrong_info(spec: EnvSpec, info: Any) -> list[str]:
    if not isinstance(info, dict):
        return [f"step.info must be a dict of arrays (got a {type(info).__name__})"]
    if ("won" in info) != spec.has_win:
        return [f"step.info must have won exactly if spec.has_win is true (it has {'' if 'won' in info else 'no '}won)"]
    return _wrong("step.info['won']", info["won"], (), jnp.bool) if spec.has_win else []


def _changed(before: Any, after: Any) -> list[str]:
    """Where a step gives a state of another shape or dtype than a reset."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return ["the state must have the same structure after a step as after a reset"]
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(before)]
    leaves = zip(names, jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return [
        f"state{name} is {new.dtype} {list(new.shape)} after a step, must be as after a reset, "
        f"{old.dtype} {list(old.shape)}"
        for name, old, new in leaves
        if (old.shape, old.dtype) != (new.shape, new.dtype)
    ]


def _values(spec: EnvSpec, done: Play) -> list[str]:
    """Violations in values; also after an end, since views there pass through the networks."""
    views, steps, alive, found = done.views, done.steps, _alive(done.steps), []
    if not views.avail.any(-1).all():
        found.append("view.avail must have at least one action for each agent, also after the end")
    if not np.isfinite(views.obs).all():
        found.append("view.obs must be finite, also after the end")
    if isinstance(views.state, OneHot):
        index = np.sort(np.asarray(views.state.index), -1)
        present = (index >= 0) & (index < views.state.size)
        if ((index[..., 1:] == index[..., :-1]) & present[..., 1:]).any():
            found.append("view.state.index must have distinct positions")
    elif not np.isfinite(views.state).all():
        found.append("view.state must be finite, also after the end")
    if not np.isfinite(np.where(alive, steps.reward, 0)).all():
        found.append("step.reward must be finite in every step of an episode")
    for i, count in enumerate(spec.action_counts):
        if views.avail[:, :, i, count:].any():
            found.append(f"view.avail must offer agent {i} only the {count} actions of spec.action_counts")
    for i, size in enumerate(spec.obs_sizes):
        if views.obs[:, :, i, size:].any():
            found.append(f"view.obs of agent {i} must be zero beyond the {size} entries of spec.obs_sizes")
    return found


def _ends(spec: EnvSpec, done: Play) -> list[str]:
    steps, alive, found = done.steps, _alive(done.steps), []
    if (steps.terminated & steps.truncated & alive).any():
        found.append("step.terminated and step.truncated must not both be true: an end at the limit is terminated")
    ended = steps.terminated | steps.truncated
    if len(ended) == spec.episode_limit and not ended.any(0).all():
        found.append(f"an episode must end within spec.episode_limit = {spec.episode_limit} steps")
    if spec.has_win and (steps.info["won"] & ~ended & alive).any():
        found.append("step.info['won'] must be true only at the winning step, not while the episode goes on")
    return found


def _alive(steps: Step) -> np.ndarray:
    """Steps up to and including each lane's first end, bool [T, W]."""
    ended = steps.terminated | steps.truncated
    return np.cumsum(ended, 0) - ended == 0


def _alone(env: Env, done: Play) -> tuple[View, Step]:
    """The views and steps of the first lane's states again, one by one without vmap, [T, ...]."""
    key = jax.random.key(0)
    start = jax.eval_shape(lambda: env.reset(key, env.params(key)))

    @jax.jit
    def run(rows: Any) -> Any:
        params = env.params(key)

        def one(row: Any) -> tuple[View, Step]:
            state, words, actions = row
            state = jax.tree.map(_as_before, state, start)
            return env.view(params, state), env.step(jax.random.wrap_key_data(words), params, state, actions)

        return jax.tree.map(_plain, jax.lax.map(one, rows))

    rows = jax.tree.map(lambda leaf: leaf[:, 0], (done.states, done.keys, done.actions))
    return jax.device_get(run(rows))


def _differing(one: Any, other: Any, tolerance: float = 0.0) -> float:
    """The share of the first axis at which two trees differ."""
    rows = []
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        near = np.isclose(a, b, tolerance, tolerance, equal_nan=True)
        rows.append(~near.reshape(len(near), -1).all(-1))
    return float(np.any(rows, 0).mean())


def _plain(leaf: Any) -> Any:
    """Random keys as their numbers."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _as_before(leaf: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(leaf)) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else leaf


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _described(error: Exception) -> str:
    """An exception in one line, with the last place outside of JAX."""
    places = [place for place in traceback.extract_tb(error.__traceback__) if "/jax/" not in place.filename]
    lines = str(error).strip().splitlines() or ["without a message"]
    where = f" ({places[-1].filename}, line {places[-1].lineno})" if len(places) > 1 else ""
    return f"{type(error).__name__}: {lines[0]}{where}"
