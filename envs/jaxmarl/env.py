"""The adapter between JaxMARL's environments and `gpgrad.envs.api`.

A `World` describes one of JaxMARL's environments; `JaxMarl` is the environment made of it. JaxMARL's automatic reset is
never used. Its time limit ends an episode by truncation, its other ends by termination.

The modules that make worlds have numerics versions; whoever changes their numbers here raises all of them.

Axes in comments: A agents; U actions; O observation; D state.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs import jaxmarl_import
from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.errors import SettingError, suggest

Stored = dict[str, jax.Array]  # a state as the replay keeps it; `step` counts the steps of the episode
LONGEST = 32767  # steps are stored as int16
NEVER = 10**6  # steps, more than any episode has: JaxMARL's own limit, where it would hide an end or reset the game


class Outcome(NamedTuple):
    """One step by JaxMARL.

    state: its next state. reward: float32 [], of the team. over: bool [], a true end, not the time limit. info: dict of
    arrays.
    """

    state: Any
    reward: jax.Array
    over: jax.Array
    info: dict[str, jax.Array]


def all_rows(state: Any, obs: jax.Array) -> jax.Array:
    """The global state where JaxMARL has none: all agents' observations, float32 [A * O]."""
    del state
    return obs.ravel()


class World(NamedTuple):
    """One of JaxMARL's environments.

    game: JaxMARL's environment. spec: without the registered name.
    reset: key to state. step: key, state and actions int32 [A] to an Outcome.
    obs: state to float32 [A, O].
    pack, unpack: between states and their stored form, without loss.
    over: whether a state is final, bool []; None where only the time limit ends episodes.
    avail: state to bool [A, U], None where all actions are always available.
    summary: state and observations to float32 [D].
    """

    game: Any
    spec: EnvSpec
    reset: Callable[[jax.Array], Any]
    step: Callable[[jax.Array, Any, jax.Array], Outcome]
    obs: Callable[[Any], jax.Array]
    pack: Callable[[Any], Stored]
    unpack: Callable[[Stored], Any]
    over: Callable[[Any], jax.Array] | None = None
    avail: Callable[[Any], jax.Array] | None = None
    summary: Callable[[Any, jax.Array], jax.Array] = all_rows


@dataclasses.dataclass(frozen=True)
class JaxMarl:
    """An environment of JaxMARL as a `gpgrad.envs.api.Env`.

    world: its description. name: the registered name.
    """

    world: World
    name: str

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        return self.world.spec._replace(name=self.name)

    def params(self, key: jax.Array) -> tuple[()]:
        """No parameters."""
        del key
        return ()

    def reset(self, key: jax.Array, params: tuple[()]) -> Stored:
        """JaxMARL's initial state."""
        del params
        with jaxmarl_import.silence():
            return self.world.pack(self.world.reset(key))

    def step(self, key: jax.Array, params: tuple[()], state: Stored, actions: jax.Array) -> Step:
        """JaxMARL's `step_env` with integer actions [A]. A final state is kept, with reward 0."""
        del params
        world, spec = self.world, self.world.spec
        with jaxmarl_import.silence():
            before = world.unpack(state)
            done = world.step(key, before, jnp.clip(actions.astype(jnp.int32), 0, spec.n_actions - 1))
            after, reward, over, info = world.pack(done.state), done.reward.astype(jnp.float32), done.over, done.info
            if world.over is not None:
                final = world.over(before)
                after = jax.tree.map(lambda old, new: jnp.where(final, old, new), state, after)
                reward, over = jnp.where(final, 0.0, reward), over | final
                info = jax.tree.map(lambda leaf: jnp.where(final, jnp.zeros_like(leaf), leaf), info)
        truncated = (after["step"] >= spec.episode_limit) & ~over
        return Step(after, reward, over, truncated, info)

    def view(self, params: tuple[()], state: Stored) -> View:
        """JaxMARL's observations, flattened, with its own numbers; its available actions where it has them."""
        del params
        world, spec = self.world, self.world.spec
        with jaxmarl_import.silence():
            there = world.unpack(state)
            obs = world.obs(there)
            everything = jnp.ones((spec.n_agents, spec.n_actions), bool)
            avail = everything if world.avail is None else world.avail(there)
            return View(obs, avail, world.summary(there, obs))


def simulator(name: str, **arguments: Any) -> Any:
    """JaxMARL's environment of a registered name. Raises SettingError where it refuses the arguments."""
    make = jaxmarl_import.load("registration").make
    with jax.ensure_compile_time_eval(), jaxmarl_import.silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Overcooked recommends its second version
        try:
            return make(name, **arguments)
        except (AssertionError, ValueError) as error:
            raise SettingError(f"jaxmarl_{name} cannot be built: {' '.join(str(error).split())}") from error


def by_agent(game: Any, actions: jax.Array) -> dict[Any, jax.Array]:
    """Actions [A] as JaxMARL takes them."""
    return {agent: actions[i] for i, agent in enumerate(game.agents)}


def rows(game: Any, values: Any) -> jax.Array:
    """JaxMARL's values of each agent, flattened, float32 [A, ...]."""
    return jnp.stack([values[agent].astype(jnp.float32).ravel() for agent in game.agents])


def packing(
    game: Any, dtypes: Mapping[str, Any], zero: tuple[str, ...] = ()
) -> tuple[Callable[[Any], Stored], Callable[[Stored], Any]]:
    """`pack` and `unpack` for a state of JaxMARL, by the names of its leaves such as `agents.pos.x`.

    dtypes: smaller ones that hold all values of a leaf; other leaves keep theirs. zero: leaves that are not stored,
    because they are always zero or do not matter to the game.
    """
    with jaxmarl_import.silence():
        example = jax.eval_shape(lambda key: game.reset(key)[1], jax.random.key(0))
    found, tree = jax.tree_util.tree_flatten_with_path(example)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in found]
    leaves = [leaf for _, leaf in found]
    if unknown := {*dtypes, *zero} - set(names):
        raise ValueError(f"the state has no {sorted(unknown)}; it has {names}")
    small = [jnp.dtype(dtypes.get(name, leaf.dtype)) for name, leaf in zip(names, leaves, strict=True)]

    def pack(state: Any) -> Stored:
        values = zip(names, jax.tree.leaves(state), small, strict=True)
        return {name: jnp.asarray(value, dtype) for name, value, dtype in values if name not in zero}

    def unpack(stored: Stored) -> Any:
        def whole(name: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
            return jnp.zeros(leaf.shape, leaf.dtype) if name in zero else stored[name].astype(leaf.dtype)

        return jax.tree.unflatten(tree, [whole(*pair) for pair in zip(names, leaves, strict=True)])

    return pack, unpack


def sized(world: World) -> World:
    """The world with the sizes of observations and state in its spec, found by tracing."""

    def look(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = world.reset(key)
        obs = world.obs(state)
        return obs, world.summary(state, obs)

    with jaxmarl_import.silence():
        obs, summary = jax.eval_shape(look, jax.random.key(0))
    return world._replace(spec=world.spec._replace(obs_dim=obs.shape[1], state_dim=summary.shape[0]))


def check_limit(episode_limit: int) -> None:
    """Raises SettingError unless the limit can be stored."""
    if not 1 <= episode_limit <= LONGEST:
        raise SettingError(f"episode_limit must be between 1 and {LONGEST} (got {episode_limit})")


def check_one_of(name: str, value: str, known: Any) -> None:
    """Raises SettingError unless the value is known."""
    if value not in known:
        raise SettingError(f"{name} is {value!r}" + suggest(value, known))
