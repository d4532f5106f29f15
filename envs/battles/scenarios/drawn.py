"""Teams and start positions sampled at each reset, as in SMACv2 (Ellis et al., 2023, Section 5).

Both teams get the same unit types; additional enemies are sampled likewise. Half of the battles start reflected: allied
units anywhere in the western half, enemies mirrored. In the other half allied units start in the centre, surrounded by
one to four groups of enemies on the diagonals. Overlapping units are pushed apart, as in StarCraft II.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.rules import Rules, Switches, table_of
from gpgrad.envs.battles.scenarios.maps import BOARD

TEAMS: dict[str, dict[str, float]] = {  # unit types and probabilities; the rare type is never a whole team
    "terran": {"marine": 0.45, "marauder": 0.45, "medivac": 0.1},
    "protoss": {"stalker": 0.45, "zealot": 0.45, "colossus": 0.1},
    "zerg": {"zergling": 0.45, "hydralisk": 0.45, "baneling": 0.1},
}
RARE = 2  # index of the rare type
SIZES = ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))  # SMACv2's
LIMIT = 200  # steps, SMACv2's
PUSHES = 16  # rounds of pushing overlapping units apart
CLEAR = 2.0  # minimum distance of sampled positions from the middle line and from the centre
INNER = 1.0  # minimum distance from the board's edge


class Draw(NamedTuple):
    """A kind of sampled battle. race: of both teams."""

    race: str
    n_agents: int
    n_enemies: int


def parse(name: str) -> Draw | None:
    """The kind of battle of a name such as "terran_5_vs_5"; None for other names."""
    found = re.fullmatch(r"(terran|protoss|zerg)_(\d+)_vs_(\d+)", name)
    return Draw(found[1], int(found[2]), int(found[3])) if found else None


def names() -> list[str]:
    """The registered names."""
    return [f"{race}_{ours}_vs_{theirs}" for race in TEAMS for ours, theirs in SIZES]


def rules_of(draw: Draw, switches: Switches) -> Rules:
    """The constants of a sampled battle; each reset gives `types`, `start` and `attack_point`."""
    kinds = tuple(TEAMS[draw.race])
    n_units = draw.n_agents + draw.n_enemies
    heals = draw.race == "terran"
    return Rules(
        types=None,
        kinds=kinds,
        shown=True,
        ours=slice(0, draw.n_agents),
        theirs=slice(draw.n_agents, n_units),
        agent_units=np.arange(draw.n_agents),
        start=np.zeros((n_units, 2), np.float32),
        attack_point=None,
        terrain="OPEN",
        healers=np.arange(n_units if heals else 0),
        switches=switches,
    )


def teams(key: jax.Array, draw: Draw) -> jax.Array:
    """Sampled unit types, uint8 [N]."""
    k_ours, k_more, k_rare = jax.random.split(key, 3)
    n, extra = draw.n_agents, max(0, draw.n_enemies - draw.n_agents)
    ours = _team(k_ours, jax.random.fold_in(k_rare, 0), draw.race, n)
    more = _team(k_more, jax.random.fold_in(k_rare, 1), draw.race, extra)
    return jnp.concatenate([ours, ours[: draw.n_enemies], more]).astype(jnp.uint8)


def _team(key: jax.Array, k_retry: jax.Array, race: str, size: int) -> jax.Array:
    """Unit types int32 [size], resampled until not all are rare."""
    if not size:
        return jnp.zeros(0, jnp.int32)
    chances = jnp.log(jnp.array(list(TEAMS[race].values()), jnp.float32))

    def sample(key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, chances, shape=(size,)).astype(jnp.int32)

    def retry(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        key, now = jax.random.split(carry[0])
        return key, sample(now)

    return jax.lax.while_loop(lambda carry: jnp.all(carry[1] == RARE), retry, (k_retry, sample(key)))[1]


def places(key: jax.Array, draw: Draw, types: jax.Array) -> jax.Array:
    """Sampled start positions, float32 [N, 2]."""
    k_which, k_reflected, k_surrounded, k_push = jax.random.split(key, 4)
    at = jnp.where(jax.random.uniform(k_which) > 0.5, _surrounded(k_surrounded, draw), _reflected(k_reflected, draw))
    radius = jnp.asarray(table_of(tuple(TEAMS[draw.race])).radius)[types.astype(jnp.int32)]
    at = jnp.clip(at + jax.random.uniform(k_push, at.shape, minval=-0.1, maxval=0.1), INNER, BOARD - INNER)
    # Units at the same position, for example in a corner, have no direction to be pushed in; give each a small offset.
    angle = np.arange(len(types)) * np.pi * (3 - np.sqrt(5))
    aside = np.float32(1e-2) * np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)
    reach = radius[:, None] + radius

    def push(at: jax.Array, _: None) -> tuple[jax.Array, None]:
        shifted = at + aside
        offset = shifted[:, None] - shifted  # [N, N, 2]
        far = jnp.sqrt(jnp.sum(offset**2, -1)) + jnp.eye(len(at))
        overlap = jnp.maximum(reach / far - 1.0, 0.0) * (1 - jnp.eye(len(at)))
        moved = at + jnp.sum(offset * overlap[..., None], axis=1) / 2
        return jnp.clip(moved, INNER, BOARD - INNER), None

    return jax.lax.scan(push, at, None, PUSHES)[0]


def _reflected(key: jax.Array, draw: Draw) -> jax.Array:
    k_ours, k_more = jax.random.split(key)
    half = BOARD / 2
    ours = jax.random.uniform(k_ours, (draw.n_agents, 2)) * jnp.array([half - CLEAR / 2, BOARD])
    mirrored = (jnp.array([BOARD, 0.0]) + ours * jnp.array([-1.0, 1.0]))[: draw.n_enemies]
    extra = max(0, draw.n_enemies - draw.n_agents)
    more = jax.random.uniform(k_more, (extra, 2)) * jnp.array([half, BOARD]) + jnp.array([half, 0.0])
    return jnp.concatenate([ours, mirrored, more])


def _surrounded(key: jax.Array, draw: Draw) -> jax.Array:
    k_amount, k_member, k_far, k_order = jax.random.split(key, 4)
    groups = jax.random.randint(k_amount, (), 1, 5)
    member = jnp.floor(jax.random.uniform(k_member, (draw.n_enemies,)) * groups).astype(jnp.int32)
    corner = jax.random.permutation(k_order, 4)[member]  # [E]
    t = jax.random.uniform(k_far, (4,))[member][:, None]
    signs = jnp.array([(-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)])[corner]
    middle = BOARD / 2
    theirs = middle + signs * (CLEAR * t + middle * (1 - t))
    return jnp.concatenate([jnp.full((draw.n_agents, 2), middle), theirs])
