"""Hanabi (Bard et al., 2020) of JaxMARL: players see each other's cards but not their own, and act in turn.

The reward is the change of the score, equal for all: 1 for each card played, minus the score when the last life is
lost. A player whose turn it is not has one action, which does nothing.

Axes in comments: A players; H cards of a hand; C cards of the deck; K kinds of cards, colour by rank.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.envs.jaxmarl.env import (
    JaxMarl,
    Outcome,
    Stored,
    World,
    by_agent,
    check_limit,
    packing,
    rows,
    simulator,
    sized,
)
from gpgrad.errors import SettingError

NUMERICS = 1

BEFORE = ("player_hands", "cur_player_idx", "fireworks", "info_tokens")  # what observations need of the state before
CARDS = ("deck", "discard_pile", "player_hands", "before.player_hands")  # one-hot over kinds of cards; zero: no card


class Game(NamedTuple):
    """now: JaxMARL's state. before: the state before the last action. action: int32 [], the last action."""

    now: Any
    before: Any
    action: jax.Array


def hanabi(
    n_agents: int = 2,
    n_colours: int = 5,
    n_ranks: int = 5,
    hand_size: int | None = None,
    info_tokens: int = 8,
    life_tokens: int = 3,
    episode_limit: int | None = None,
    name: str = "hanabi",
) -> JaxMarl:
    """Hanabi, cooperative and with hidden cards.

    n_agents: two to five players. n_colours: of the cards, 1 to 6. n_ranks: of the cards, 1 to 5.
    hand_size: cards of each player; None for 5 with two or three players, otherwise 4.
    info_tokens: hints at the start. life_tokens: wrong cards that end a game.
    episode_limit: steps; None for a number that no game reaches.
    """
    if not 2 <= n_agents <= 5:
        raise SettingError(f"n_agents must be between 2 and 5 (got {n_agents})")
    for option, value, most in (("n_colours", n_colours, 6), ("n_ranks", n_ranks, 5), ("life_tokens", life_tokens, 9)):
        if not 1 <= value <= most:
            raise SettingError(f"{option} must be between 1 and {most} (got {value})")
    if not 1 <= info_tokens <= 99:
        raise SettingError(f"info_tokens must be between 1 and 99 (got {info_tokens})")
    hand = hand_size if hand_size is not None else 5 if n_agents < 4 else 4
    copies = COPIES[n_ranks]
    cards = n_colours * sum(copies)
    if not 1 <= hand <= cards // n_agents:
        raise SettingError(f"hand_size must be between 1 and {cards // n_agents}, the cards of each (got {hand})")
    # Cards are played or discarded until the deck is empty, then each player has one more turn. A hint needs a token,
    # and each card returns at most one.
    turns = cards - n_agents * hand + n_agents + 1
    limit = info_tokens + 2 * turns if episode_limit is None else episode_limit
    check_limit(limit)
    return JaxMarl(_hanabi(n_agents, n_colours, n_ranks, hand, info_tokens, life_tokens, limit), name)


COPIES = {1: (3,), 2: (3, 2), 3: (3, 2, 2), 4: (3, 2, 2, 2), 5: (3, 2, 2, 2, 1)}  # of the ranks, by their number


@functools.cache
def _hanabi(n_agents: int, colours: int, ranks: int, hand: int, tokens: int, lives: int, limit: int) -> World:
    game = simulator(
        "hanabi",
        num_agents=n_agents,
        num_colors=colours,
        num_ranks=ranks,
        hand_size=hand,
        max_info_tokens=tokens,
        max_life_tokens=lives,
        num_cards_of_rank=jnp.array(COPIES[ranks]).__array__(),
    )
    nothing = int(game.num_moves) - 1  # the last action, of players whose turn it is not

    def reset(key: jax.Array) -> Game:
        state = game.reset(key)[1]
        return Game(state, state, jnp.int32(nothing))

    def step(key: jax.Array, state: Game, actions: jax.Array) -> Outcome:
        _, after, rewards, dones, _ = game.step_env(key, state.now, by_agent(game, actions))
        action = actions[jnp.argmax(state.now.cur_player_idx)]
        told = {"bombed": after.bombed & ~state.now.bombed}
        return Outcome(Game(after, state.now, action), rewards["__all__"], dones["__all__"], told)

    pack, unpack = _packing(game, nothing)
    actions = int(game.num_moves)
    return sized(
        World(
            game=game,
            spec=EnvSpec("", n_agents, actions, 0, 0, 0, limit, return_scale=float(colours * ranks), ends_early=True),
            reset=reset,
            step=step,
            over=lambda state: state.now.done,
            obs=lambda state: rows(game, game.get_obs(*state)),
            avail=lambda state: rows(game, game.get_legal_moves(state.now)) > 0,
            pack=pack,
            unpack=unpack,
        )
    )


def _packing(game: Any, nothing: int) -> tuple[Any, Any]:
    """As `packing`, with cards stored by their kinds, and of the state before what observations need."""
    example = jax.eval_shape(lambda key: game.reset(key)[1], jax.random.key(0))
    fields = [field for field in vars(example) if field != "step"]
    small = {field: jnp.int8 for field in fields if getattr(example, field).dtype != bool}
    pack_now, unpack_now = packing(game, {"step": jnp.int16, **small})
    kinds = game.num_colors * game.num_ranks

    def kind(cards: jax.Array) -> jax.Array:  # [..., colours, ranks] to int8 [...]
        flat = cards.reshape(*cards.shape[:-2], kinds)
        return jnp.where(flat.any(-1), jnp.argmax(flat, -1), -1).astype(jnp.int8)

    def card(kind: jax.Array) -> jax.Array:
        return jax.nn.one_hot(kind, kinds).reshape(*kind.shape, game.num_colors, game.num_ranks)

    def pack(state: Game) -> Stored:
        stored = pack_now(state.now)
        stored |= {f"before.{field}": getattr(state.before, field).astype(jnp.int8) for field in BEFORE}
        stored["action"] = state.action.astype(jnp.int8)
        return {field: kind(value) if field in CARDS else value for field, value in stored.items()}

    def unpack(stored: Stored) -> Game:
        whole = {field: card(value) if field in CARDS else value for field, value in stored.items()}
        now = unpack_now(whole)
        before = {field: whole[f"before.{field}"].astype(getattr(now, field).dtype) for field in BEFORE}
        return Game(now, now.replace(**before), stored["action"].astype(jnp.int32))

    return pack, unpack
