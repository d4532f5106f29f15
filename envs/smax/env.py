"""SMAX (JaxMARL; Rutherford et al., 2024): a team of units against scripted enemies on a field of 32 by 32 cells.

Maps, units and rules are JaxMARL's, and the same keys give the same battle. This implementation stores compact states,
computes observations in one vectorised pass, and does not reset at the end. docs/battles.md lists all differences.

Axes in comments: N units, allies first; A allies; E enemies; U actions.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.api import EnvSpec, Step, View
from gpgrad.envs.smax import battle
from gpgrad.envs.smax.battle import N_MOVES, STOP, Draws, Field, SmaxState
from gpgrad.envs.smax.rules import Rules, rules
from gpgrad.envs.smax.view import OTHER_FEATURES, OWN_FEATURES, STATE_FEATURES, observe
from gpgrad.errors import SettingError

NUMERICS = 1

BEST_RETURN = 2.0  # 1 for the enemies' health and 1 for the win


@dataclasses.dataclass(frozen=True)
class Smax:
    """A battle of SMAX against JaxMARL's heuristic enemies.

    map: a scenario of SMAX or a name in `rules.ADDED`.
    episode_limit: steps, terminal for the learner as in SMAC; JaxMARL's own step takes one more, because it tests the
        limit before it increments the counter.
    name: the registered name.
    """

    map: str
    episode_limit: int = 100
    name: str = "smax"

    def __post_init__(self) -> None:
        """Check the settings. Raises SettingError."""
        if not 1 <= self.episode_limit <= 32767:
            raise SettingError(f"episode_limit must be between 1 and 32767 (got {self.episode_limit})")
        rules(self.map)

    @property
    def rules(self) -> Rules:
        """The constants of the map."""
        return rules(self.map)

    @property
    def spec(self) -> EnvSpec:
        """Static sizes and rules."""
        r = self.rules
        return EnvSpec(
            name=self.name,
            n_agents=r.n_allies,
            n_actions=N_MOVES + r.n_enemies,
            obs_dim=OTHER_FEATURES * (r.n_units - 1) + OWN_FEATURES,
            state_dim=STATE_FEATURES * r.n_units,
            own_state_dim=OWN_FEATURES,
            episode_limit=self.episode_limit,
            limit_is_terminal=True,
            has_win=True,
            return_scale=BEST_RETURN,
            ends_early=True,
        )

    def params(self, key: jax.Array) -> tuple[()]:
        """No parameters."""
        del key
        return ()

    def reset(self, key: jax.Array, params: tuple[()]) -> SmaxState:
        """Teams near the centre of each half; SMACv2's maps sample positions and types."""
        del params
        r = self.rules
        key, k_allies, k_enemies = jax.random.split(jax.random.split(key)[1], 3)
        key, k_places = jax.random.split(key)
        _, k_types = jax.random.split(key)
        if r.scatter is None:
            allies = jax.random.uniform(k_allies, (r.n_allies, 2), minval=-2, maxval=2)
            enemies = jax.random.uniform(k_enemies, (r.n_enemies, 2), minval=-2, maxval=2)
            middle = np.array([r.width / 4, r.height / 2], np.float32)
            beyond = np.array([3 * r.width / 4, r.height / 2], np.float32)
            places = jnp.concatenate([middle + allies, beyond + enemies])
        else:
            places = r.scatter(k_places)
        types = r.draw_types(k_types) if r.types is None else None
        own = battle.units(r, types)
        x, y = battle.push(own, places[:, 0], places[:, 1], jnp.ones(r.n_units, bool))
        n = r.n_allies
        return SmaxState(
            x=x,
            y=y,
            health=jnp.asarray(own.health, jnp.uint8),
            cooldown=jnp.zeros(r.n_units, jnp.float32),
            action=jnp.full(r.n_units, STOP, jnp.int8),
            target=jnp.stack([r.width - x[n:], r.height - y[n:]]),  # the point opposite, mirrored at the centre
            attacked=jnp.full(r.n_enemies, -1, jnp.int8),
            types=types,
            time=jnp.zeros((), jnp.int16),
        )

    def draws(self, key: jax.Array) -> Draws:
        """The randomness of one step."""
        return battle.draws(self.rules, key)

    def step(self, key: jax.Array, params: tuple[()], state: SmaxState, actions: jax.Array) -> Step:
        """One step with integer actions [A]: north, east, south, west, stop, then attacks on each enemy.

        Unavailable actions do nothing.
        """
        return self.transition(params, state, actions, self.draws(key))

    def transition(self, params: tuple[()], state: SmaxState, actions: jax.Array, draws: Draws) -> Step:
        """The rules of one step, given its randomness.

        reward: fraction of the enemies' health that was lost, plus 1 for the win.
        info, set in the step of the event: won; draw, both teams died in the same step; timed_out, the limit came
        first; dead_allies, dead_enemies, int32 counts.
        """
        del params
        r, n = self.rules, self.rules.n_allies
        own = battle.units(r, state.types)
        before = Field(state.x, state.y, state.health.astype(jnp.float32), state.cooldown)
        attacked = state.attacked.astype(jnp.int32)
        theirs, attacked = battle.enemy_actions(r, own, before, state.target, attacked, draws.chase)
        everyone = jnp.concatenate([actions.astype(jnp.int32), theirs])
        after = battle.fight(r, own, before, everyone, draws.cooldown)
        stored = SmaxState(
            x=after.x,
            y=after.y,
            health=after.health.astype(jnp.uint8),
            cooldown=after.cooldown,
            action=everyone.astype(jnp.int8),
            target=state.target,
            attacked=attacked.astype(jnp.int8),
            types=state.types,
            time=state.time + jnp.int16(1),
        )
        stood, standing = before.health > 0, after.health > 0
        over = ~jnp.any(stood[:n]) | ~jnp.any(stood[n:])  # the battle was over before this step
        lost, beaten = ~jnp.any(standing[:n]), ~jnp.any(standing[n:])
        won = beaten & ~lost & ~over
        harm = jnp.sum((before.health - after.health)[n:] / own.health[n:]) / r.n_enemies
        terminated = lost | beaten
        truncated = (stored.time >= self.episode_limit) & ~terminated
        died = stood & ~standing
        info = {
            "won": won,
            "draw": beaten & lost & ~over,
            "timed_out": truncated,
            "dead_allies": jnp.sum(died[:n], dtype=jnp.int32),
            "dead_enemies": jnp.sum(died[n:], dtype=jnp.int32),
        }
        return Step(stored, harm + won, terminated, truncated, info)

    def view(self, params: tuple[()], state: SmaxState) -> View:
        """Observations and state in JaxMARL's order.

        obs: float32 [A, O]. For each other unit in sight, allies first: health, offset divided by the sight range, last
        move, last attack, cooldown, type; then the agent's own health, position, cooldown, type. Values are fractions
        of their maximum; zeros for dead observers and dead units.
        state: float32 [D]. Each unit's own features, then teams, then types: JaxMARL's state with positions, cooldowns
        and types scaled to 0..1.
        avail: bool [A, U], moves, stop, and attacks on living enemies in range. Dead agents can only stop.
        """
        del params
        r = self.rules
        return observe(r, battle.units(r, state.types), state)
