"""JaxMARL's cooperative particle environments (MPE; Lowe et al., 2017).

The rules are JaxMARL's. This module stores compact states, pads agents of different sizes, and combines the agents'
rewards into a team reward.

Axes in comments: A agents; L landmarks; O observation; U actions.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs import jaxmarl_import
from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.errors import SettingError, suggest

NUMERICS = 1

SCENARIOS = {
    "simple_spread": ("simple_spread", "SimpleSpreadMPE"),
    "simple_reference": ("simple_reference", "SimpleReferenceMPE"),
    "simple_speaker_listener": ("simple_speaker_listener", "SimpleSpeakerListenerMPE"),
}
TEAM_REWARDS = ("mean", "sum")
LIMIT = 25  # steps, as documented; JaxMARL tests the limit before it increments the counter and takes one more


class MpeState(NamedTuple):
    """place: float32 [A + L, 2]. speed: float32 [A, 2]; landmarks do not move. said: int8 [A], the last symbol that
    each agent sent, -1 for none. goal: int8 [...], target landmarks, None if the scenario has none. time: int16 [].
    """

    place: jax.Array
    speed: jax.Array
    said: jax.Array
    goal: jax.Array | None
    time: jax.Array


@dataclasses.dataclass(frozen=True)
class Mpe:
    """A cooperative scenario of JaxMARL's MPE.

    scenario: a name in `SCENARIOS`.
    team_reward: `mean` of the agents' rewards, which keeps their scale, or `sum`.
    episode_limit: steps after which an episode is truncated.
    name: the registered name.
    """

    scenario: str
    team_reward: str = "mean"
    episode_limit: int = LIMIT
    name: str = "mpe"

    def __post_init__(self) -> None:
        """Check the settings. Raises SettingError."""
        if self.scenario not in SCENARIOS:
            raise SettingError(f"scenario is {self.scenario!r}" + suggest(self.scenario, SCENARIOS))
        if self.team_reward not in TEAM_REWARDS:
            raise SettingError(f"team_reward is {self.team_reward!r}" + suggest(self.team_reward, TEAM_REWARDS))
        if not 1 <= self.episode_limit <= 32767:
            raise SettingError(f"episode_limit must be between 1 and 32767 (got {self.episode_limit})")
        simulator(self.scenario)

    @property
    def game(self) -> Any:
        """JaxMARL's environment."""
        return simulator(self.scenario)

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules. return_scale: that of a distance of 1 to the goal in every step."""
        game = self.game
        obs = tuple(game.observation_spaces[agent].shape[0] for agent in game.agents)
        actions = tuple(int(game.action_spaces[agent].n) for agent in game.agents)
        same = len(set(obs)) == 1
        team = game.num_agents if self.team_reward == "sum" else 1
        return EnvSpec(
            name=self.name,
            n_agents=game.num_agents,
            n_actions=max(actions),
            obs_dim=max(obs),
            state_dim=sum(obs),
            own_state_dim=obs[0] if same else 0,
            episode_limit=self.episode_limit,
            return_scale=float(self.episode_limit * team),
            obs_sizes=() if same else obs,
            action_counts=() if len(set(actions)) == 1 else actions,
        )

    def params(self, key: jax.Array) -> tuple[()]:
        """No parameters."""
        del key
        return ()

    def reset(self, key: jax.Array, params: tuple[()]) -> MpeState:
        """Agents and landmarks at random positions."""
        del params
        return self._compact(self.game.reset(key)[1], jnp.zeros((), jnp.int16))

    def step(self, key: jax.Array, params: tuple[()], state: MpeState, actions: jax.Array) -> Step:
        """One step with integer actions [A], clipped to each agent's own number of actions. Never terminates.

        info: agent_reward float32 [A], the reward of each agent.
        """
        del params
        game = self.game
        counts = np.array([game.action_spaces[agent].n for agent in game.agents], np.int32)
        own = jnp.clip(actions.astype(jnp.int32), 0, counts - 1)
        chosen = {agent: own[i] for i, agent in enumerate(game.agents)}
        _, after, rewards, _, _ = game.step_env(key, self.restore(state), chosen)
        time = state.time + jnp.int16(1)
        earned = jnp.stack([rewards[agent] for agent in game.agents]).astype(jnp.float32)
        reward = earned.sum() if self.team_reward == "sum" else earned.mean()
        truncated = time >= self.episode_limit
        return Step(self._compact(after, time), reward, jnp.zeros((), bool), truncated, {"agent_reward": earned})

    def view(self, params: tuple[()], state: MpeState) -> View:
        """JaxMARL's observations, padded with zeros to [A, O]; the state is their concatenation without padding.

        avail: bool [A, U], True for each agent's own actions.
        """
        del params
        game, size = self.game, self.spec.obs_dim
        seen = game.get_obs(self.restore(state))
        own = [seen[agent].astype(jnp.float32) for agent in game.agents]
        counts = np.array([game.action_spaces[agent].n for agent in game.agents])
        return View(
            obs=jnp.stack([jnp.pad(obs, (0, size - len(obs))) for obs in own]),
            avail=jnp.asarray(np.arange(counts.max()) < counts[:, None]),
            state=jnp.concatenate(own),
        )

    def _compact(self, state: Any, time: jax.Array) -> MpeState:
        spoke = jnp.any(state.c != 0, axis=-1) if state.c.shape[-1] else jnp.zeros(len(state.c), bool)
        return MpeState(
            place=state.p_pos,
            speed=state.p_vel[: self.game.num_agents],
            said=jnp.where(spoke, jnp.argmax(state.c, axis=-1), -1).astype(jnp.int8),
            goal=None if state.goal is None else state.goal.astype(jnp.int8),
            time=time,
        )

    def restore(self, state: MpeState) -> Any:
        """JaxMARL's state."""
        game = self.game
        return states().State(
            p_pos=state.place,
            p_vel=jnp.concatenate([state.speed, jnp.zeros((game.num_landmarks, 2))]),
            c=jax.nn.one_hot(state.said, game.dim_c),
            goal=None if state.goal is None else state.goal.astype(jnp.int32),
            done=jnp.zeros((), bool),
            step=state.time.astype(jnp.int32),
        )


def states() -> Any:
    """JaxMARL's module with the state of all MPE environments."""
    return jaxmarl_import.load("environments.mpe.simple")


@functools.cache
def simulator(scenario: str) -> Any:
    """JaxMARL's environment of a scenario."""
    module, name = SCENARIOS[scenario]
    with jax.ensure_compile_time_eval():
        return getattr(jaxmarl_import.load(f"environments.mpe.{module}"), name)()
