"""Moves of predators and prey, each in two forms with equal results: a loop over turns, and few rounds over all units.

Turns are iterations of a loop, which run one after the other. They are the faster form on CPUs. On accelerators an
iteration costs some launches however little it computes, so there the rounds are used: `BY_PLATFORM` lowers to either.

Axes in comments: A predators, P prey.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.board import GONE, NO_TARGET, count, is_in

REACH = 2  # cells; prey further apart do not affect each other within a step


class Prey(NamedTuple):
    """What is known of each prey before the first turn, in the order of the turns.

    position: int8 [P, 2]. around: int32 [P, 4], the neighbouring cells. tries: bool [P, A], predators next to it that
    chose to catch. need: int32 [P], catchers of a capture. choice: int32 [P], as `Draws.prey_choice`.
    """

    position: jax.Array
    around: jax.Array
    tries: jax.Array
    need: jax.Array
    choice: jax.Array


class Events(NamedTuple):
    """What happened to each prey, in the order of the turns.

    catchers: bool [P, A], predators that tried to catch it. captured: bool [P].
    free: int32 [P], number of free cells; 0 if it was captured, dead or boxed in.
    """

    catchers: jax.Array
    captured: jax.Array
    free: jax.Array


PreyMoved = tuple[jax.Array, jax.Array, Events]  # cells of the prey by id, of the predators by id, events


class Moves(NamedTuple):
    """A form of the moves.

    predators(order, cells, target) -> cells, all int32 [A], all but the order by id: predators move to their targets,
    one by one in that order, each if its target is not NO_TARGET and empty.
    prey(freeze, order, cells [P], standing [A], prey) -> (cells, standing, events): each prey is captured or moves, one
    by one in that order. standing: cells of the predators; with `freeze` those of catchers become GONE.
    """

    predators: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    prey: Callable[[bool, jax.Array, jax.Array, jax.Array, Prey], PreyMoved]


def predators_in_turns(order: jax.Array, cells: jax.Array, target: jax.Array) -> jax.Array:
    """`Moves.predators`, a turn each."""
    ids = jnp.arange(len(cells))

    def move(cells: jax.Array, turn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        agent, goal = turn
        free = (goal != NO_TARGET) & ~jnp.any(cells == goal)
        return jnp.where(free & (ids == agent), goal, cells), None

    return jax.lax.scan(move, cells, (order, target[order]))[0]


def predators_at_once(order: jax.Array, cells: jax.Array, target: jax.Array) -> jax.Array:
    """`Moves.predators` in ceil(log2(A)) rounds without a loop.

    A predator moves if nobody is on its target in its turn: the occupant left before, and no other arrived before. Of
    several with the same target only the first whose turn is after the occupant's can arrive: those before it find the
    occupant, and where the occupant stays nobody arrives. So a predator depends on at most one other, the occupant of
    its target, whose turn is earlier. Such chains hold at most A predators. A round doubles the part of its chain that
    a predator knows, beginning with itself, hence ceil(log2(A)) rounds.
    """
    now, goal = cells[order], target[order]
    turns = np.arange(len(cells))
    earlier = turns[None, :] < turns[:, None]  # [A, A]
    occupant = (goal[:, None] == now[None, :]) & (goal != NO_TARGET)[:, None]  # [A, A], at most one per row
    in_time = (goal != NO_TARGET) & ~jnp.any(occupant & ~earlier, axis=1)
    rivals = (goal[:, None] == goal[None, :]) & in_time[None, :] & earlier
    moves = in_time & ~jnp.any(rivals, axis=1)
    # The index of the predator waited for; its own at the end of a chain.
    ahead = jnp.where(jnp.any(occupant, axis=1), jnp.sum(jnp.where(occupant, turns, 0), axis=1), turns)
    for _ in range((len(cells) - 1).bit_length()):
        moves, ahead = moves & moves[ahead], ahead[ahead]
    return _by_id(order, jnp.where(moves, goal, now))


def prey_in_turns(freeze: bool, order: jax.Array, cells: jax.Array, standing: jax.Array, prey: Prey) -> PreyMoved:
    """`Moves.prey`, a turn each."""
    ids = jnp.arange(len(cells))

    def move(carry: tuple[jax.Array, jax.Array], turn: tuple[jax.Array, jax.Array, Prey]):
        cells, standing = carry  # [P], [A]
        mover, home, one = turn
        alive = home != GONE
        catchers = one.tries & alive & (standing != GONE)
        captured = _captured(catchers, one.need)
        if freeze:
            standing = jnp.where(catchers & captured, GONE, standing)
        free = (one.around != NO_TARGET) & ~is_in(one.around, cells) & ~is_in(one.around, standing)
        free = free & alive & ~captured  # [4]
        goal, n_free = _choose(one, home, free, captured)
        cells = jnp.where(ids == mover, goal, cells)
        return (cells, standing), Events(catchers, captured, n_free)

    (cells, standing), events = jax.lax.scan(move, (cells, standing), (order, cells[order], prey))
    return cells, standing, events


def prey_in_rounds(freeze: bool, order: jax.Array, cells: jax.Array, standing: jax.Array, prey: Prey) -> PreyMoved:
    """`Moves.prey` in rounds, each of which moves all prey that need not wait for another.

    What a prey does depends on its neighbouring cells and on the predators next to it. Another prey changes these by
    leaving or entering one of the cells, or by freezing one of the predators, hence from at most `REACH` cells away. So
    a prey must wait only for prey with earlier turns within reach. Those that wait for none move in the first round,
    and the first of the remaining prey waits for none: there are at most P rounds. Their number is that of prey in the
    longest chain with rising turns, each within reach of the last; with random orders on sparse boards 2 or 3. Without
    freezing captures depend on no turns, and nobody waits for captured prey.
    """
    home, turns = cells[order], np.arange(len(cells))
    earlier = turns[None, :] < turns[:, None]  # [P, P]
    alive = home != GONE
    position = prey.position.astype(jnp.int32)
    distance = jnp.sum(jnp.abs(position[:, None] - position[None, :]), axis=-1)  # [P, P]
    waits = earlier & (distance <= REACH)
    tries = prey.tries & (alive[:, None] & (standing != GONE))  # [P, A]

    def look(now: jax.Array, events: Events) -> tuple[jax.Array, Events]:
        """What each prey does if those with earlier turns did `events` and are in the cells `now` [P]."""
        seen = jnp.where(earlier, now, home)  # [P, P]
        gone = jnp.zeros_like(tries)
        if freeze:
            gone = jnp.any(earlier[..., None] & (events.catchers & events.captured[:, None]), axis=1)  # [P, A]
        catchers = tries & ~gone
        captured = _captured(catchers, prey.need)
        stand = jnp.where(gone, GONE, standing)  # [P, A]
        others = jnp.concatenate([seen, stand], axis=1)[:, None, :]  # [P, 1, P + A]
        free = (prey.around != NO_TARGET) & ~jnp.any(prey.around[..., None] == others, axis=-1)
        free = free & (alive & ~captured)[:, None]  # [P, 4]
        goal, n_free = _choose(prey, home, free, captured)
        return goal, Events(catchers, captured, n_free)

    def play_round(carry: tuple[jax.Array, Events, jax.Array]) -> tuple[jax.Array, Events, jax.Array]:
        now, (catchers, captured, free), done = carry
        ready = ~done & ~jnp.any(waits & ~done, axis=1)
        goal, new = look(now, carry[1])
        now = jnp.where(ready, goal, now)
        catchers = jnp.where(ready[:, None], new.catchers, catchers)
        events = Events(catchers, jnp.where(ready, new.captured, captured), jnp.where(ready, new.free, free))
        return now, events, done | ready

    none = jnp.zeros_like(alive)
    now, events, done = home, Events(jnp.zeros_like(tries), none, jnp.zeros_like(home)), ~alive
    if not freeze:
        captured = _captured(tries, prey.need)
        now, done = jnp.where(captured, GONE, home), done | captured
        events = events._replace(catchers=tries, captured=captured)
    start = (now, events, done)
    now, events, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), play_round, start)
    if freeze:
        standing = jnp.where(jnp.any(events.catchers & events.captured[:, None], axis=0), GONE, standing)
    return _by_id(order, now), standing, events


def _captured(catchers: jax.Array, need: jax.Array) -> jax.Array:
    """Whether catchers [..., A] are enough."""
    return jnp.any(catchers, axis=-1) & (count(catchers, axis=-1) >= need)


def _choose(prey: Prey, home: jax.Array, free: jax.Array, captured: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next cell, and the number of free cells among the neighbouring ones, from `free` [..., 4]."""
    n_free = count(free, axis=-1)
    rank = jnp.cumsum(free, axis=-1) - 1
    chosen = free & (rank == (prey.choice % jnp.maximum(n_free, 1))[..., None])
    stays = jnp.where(captured, GONE, home)
    return jnp.where(n_free > 0, jnp.sum(jnp.where(chosen, prey.around, 0), axis=-1), stays), n_free


def _by_id(order: jax.Array, values: jax.Array) -> jax.Array:
    """Integers [N] in the order of the turns, by id."""
    return jnp.sum(jnp.where(order[:, None] == jnp.arange(len(order)), values[:, None], 0), axis=0)


def _predators(order: jax.Array, cells: jax.Array, target: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(order, cells, target, cpu=predators_in_turns, default=predators_at_once)


def _prey(freeze: bool, *args) -> PreyMoved:
    turns, rounds = partial(prey_in_turns, freeze), partial(prey_in_rounds, freeze)
    return jax.lax.platform_dependent(*args, cpu=turns, default=rounds)


TURNS = Moves(predators_in_turns, prey_in_turns)
ROUNDS = Moves(predators_at_once, prey_in_rounds)
BY_PLATFORM = Moves(_predators, _prey)
