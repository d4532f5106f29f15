"""GPVD: gradient-protected value decomposition (Hou et al., AAAI 2026).

Joint actions that share some agents' actions with the best joint action of a state pull the shared utilities away
from it (gradient interference, Def. 2). Transitions are grouped by the SimHash code of their state (Eq. 5 and 6). In
each group the transition with the highest target above the current maximum of Q_tot is protected: transitions that
share an action with it and have a TD error of the opposite sign get weight alpha (Eq. 7) in the loss (Eq. 8). A bonus
for rarely visited codes helps to find such joint actions (Eq. 9).

Axes in comments: N = T * B transitions, t-major; A agents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.errors import SettingError
from gpgrad.methods.weighting import simhash, visits
from gpgrad.methods.weighting.base import Weighting
from gpgrad.methods.weighting.protection import StarScope, Transitions, protect, report, weigh
from gpgrad.types import Batch, Clock, Context, Metrics, PyTree, Terms

NUMERICS = 2

Grouping = Literal["batch", "exact", "single"]
Targets = Literal["learned", "one_step"]


class GpvdState(NamedTuple):
    """coder: what turns states into codes; a Hash, salts, or nothing. counts: visits of codes since the start."""

    coder: PyTree
    counts: visits.Counts


class Groups(NamedTuple):
    """What is known of a batch before its targets.

    buckets: int32 [N], -1 in padding. visits: int32 [T, B], of each state's code since the start. bonus: float32
    [T, B], 0 in padding. relevant: bool [N, A], agents whose actions can be shared; None: all.
    """

    buckets: jax.Array
    visits: jax.Array
    bonus: jax.Array
    relevant: jax.Array | None


def intrinsic_reward(counts: jax.Array, beta: float, kappa: float) -> jax.Array:
    """The bonus beta / sqrt(N) + kappa of visit counts N [...]; a code that was never counted passes for one visit.

    Source: GPVD (AAAI 2026), Eq. 9.
    """
    return beta / jnp.sqrt(jnp.maximum(counts, 1).astype(jnp.float32)) + kappa


def flatten(x: jax.Array) -> jax.Array:
    """[T, B, ...] to [N, ...]."""
    return x.reshape(-1, *x.shape[2:])


def transitions(groups: Groups, batch: Batch, terms: Terms, targets: Targets = "learned") -> Transitions:
    """A batch flattened to rows, with the targets of the loss or one-step targets."""
    return Transitions(
        groups.buckets,
        flatten(batch.actions),
        flatten(terms.target if targets == "learned" else terms.one_step),
        flatten(terms.q_tot),
        flatten(terms.q_tot_max),
        flatten(batch.valid),
        groups.relevant,
    )


class Coding(NamedTuple):
    """How states become codes, and how their visits are counted.

    init(key, state) -> GpvdState. words(coder, states, leading shape) -> uint32 [..., W]. record(state, clock, states,
    valid) -> state, when episodes are collected. settle(state, clock, states, valid) -> state, before an update.
    resize(state) -> state, for this run's t_max.
    """

    init: Callable[[jax.Array, PyTree], GpvdState]
    words: Callable[[PyTree, PyTree, tuple[int, ...]], jax.Array]
    record: Callable[[GpvdState, Clock, PyTree, jax.Array], GpvdState]
    settle: Callable[[GpvdState, Clock, PyTree, jax.Array], GpvdState]
    resize: Callable[[GpvdState], GpvdState]


def _make_coding(context: Context, k: int, g: simhash.Preprocessing, grouping: Grouping) -> Coding:
    bits = {"batch": k, "exact": 64, "single": 1}[grouping]

    def init(key: jax.Array, state: PyTree) -> GpvdState:
        key, _ = jax.random.split(key)
        size = state.size if isinstance(state, OneHot) else state.shape[-1]
        makers = {"batch": lambda: simhash.make_hash(key, k, size), "exact": lambda: simhash.make_salts(key, size)}
        return GpvdState(makers.get(grouping, tuple)(), visits.make_counts(bits, context.t_max))

    def words(coder: PyTree, states: PyTree, shape: tuple[int, ...]) -> jax.Array:
        """Words of states with these leading axes, uint32 [..., W]."""
        if grouping == "batch":
            return simhash.codes(coder.projection, states, coder.threshold)
        if grouping == "exact":
            return simhash.fingerprints(coder, states)
        return jnp.zeros((*shape, 1), jnp.uint32)

    waits = grouping == "batch" and g != "identity"

    def record(state: GpvdState, clock: Clock, states: PyTree, valid: jax.Array) -> GpvdState:
        # Before the first batch there are no statistics and so no codes; it brings its visits along.
        counted = valid & (clock.updates > 0) if waits else valid
        codes = words(state.coder, states, valid.shape)
        return state._replace(counts=visits.count_visits(state.counts, codes, counted))

    def settle(state: GpvdState, clock: Clock, states: PyTree, valid: jax.Array) -> GpvdState:
        """Freeze g's statistics on the first batch and count its visits."""
        if not waits:
            return state
        first = clock.updates == 0
        coder = jax.lax.cond(
            first, lambda old: simhash.standardise(old, g, states, valid), lambda old: old, state.coder
        )
        codes = words(coder, states, valid.shape)
        # A loop of one turn or none updates the table in place, where a branch would copy it.
        counts = jax.lax.fori_loop(
            0, first.astype(jnp.int32), lambda _, counts: visits.count_visits(counts, codes, valid), state.counts
        )
        return GpvdState(coder, counts)

    def resize(state: GpvdState) -> GpvdState:
        return state._replace(counts=visits.resize(state.counts, visits.make_counts(bits, context.t_max)))

    return Coding(init, words, record, settle, resize)


def make(
    context: Context,
    alpha: float = 0.2,
    beta: float = 0.01,
    k: int = 32,
    kappa: float = 0.0,
    star_weight: float = 1.0,
    star_scope: StarScope = "same_sign",
    targets: Targets = "learned",
    g: simhash.Preprocessing = "identity",
    grouping: Grouping = "batch",
    ignore_forced: bool = False,
    reference: float = 0.0,
) -> Weighting:
    """GPVD on any decomposition. The learner takes the mean of the weighted losses over valid steps (Eq. 8).

    alpha: weight of interfering transitions; 1 protects nothing. beta, kappa: bonus beta / sqrt(N) + kappa. k: bits
    of a code. star_weight: weight of transitions with the protected joint action. star_scope: `same_sign` gives it
    to those whose TD error has the sign of the protected transition's, since the others push the other way (Eq. 4);
    `all` gives it to all of them. targets: the targets that choose protected transitions and give TD errors their
    sign. `learned` is the target of the loss: it includes the bonus of Eq. 9, and TD(lambda) where
    `learner.td_lambda` is not 0, as in presets pymarl2 and pymarl3. `one_step` is the paper's y, r + gamma max Q, here
    with the bonus; the loss keeps its own target. g: preprocessing of states, with the statistics of the first batch;
    of what was collected before it, only the visits of that batch are counted.
    grouping: `batch` groups a batch by codes, `exact` by identical states, `single` makes one group of all, both
    without k and g; visits are counted likewise. ignore_forced: an agent with a single available action shares
    nothing. reference: the largest return of the environments that beta and kappa are meant for, 20 in SMAC; they
    are scaled by this environment's largest return over it. 0: they are in the unit of learned rewards, after
    `learner.reward_scale`.

    Source: GPVD (AAAI 2026), Eq. 5, Eq. 6, Eq. 7, Eq. 8 and Eq. 9; Table 2 for alpha, beta and k.
    """
    check(alpha, beta, k, star_weight)
    if reference < 0:
        raise SettingError(f"weighting.reference must be at least 0 (got {reference})")
    if g != "identity" and grouping != "batch":
        raise SettingError(f"weighting.g must be identity (got {g}), since grouping {grouping} has no codes")
    unit = context.spec.return_scale / reference if reference else 1.0

    coding = _make_coding(context, k, g, grouping)

    def prepare(state: GpvdState, clock: Clock, batch: Batch) -> tuple[GpvdState, Groups]:
        states = jax.tree.map(lambda leaf: leaf[:-1], batch.view.state)
        state = coding.settle(state, clock, states, batch.valid)
        words = coding.words(state.coder, states, batch.valid.shape)  # [T, B, W]
        seen = visits.visits(state.counts, words)
        bonus = jnp.where(batch.valid, intrinsic_reward(seen, beta * unit, kappa * unit), 0.0)
        buckets = simhash.bucket_ids(flatten(words), flatten(batch.valid))
        relevant = flatten(batch.view.avail[:-1].sum(-1) > 1) if ignore_forced else None
        return state, Groups(buckets, seen, bonus, relevant)

    def weights(state: GpvdState, aux: Groups, batch: Batch, terms: Terms) -> tuple[jax.Array, Metrics]:
        rows = transitions(aux, batch, terms, targets)
        found = protect(rows)
        log = report(rows, found) | {"share_bonus": share_bonus(aux.bonus, batch)}
        return weigh(found, rows.valid, alpha, star_weight, star_scope).reshape(batch.valid.shape), log

    return Weighting(coding.init, coding.record, prepare, lambda state, aux: aux.bonus, weights, coding.resize)


def share_bonus(bonus: jax.Array, rewarded: Batch) -> jax.Array:
    """The bonus in what targets are made of, |bonus| / (|bonus| + |reward|) in sums over a batch; 0 without bonus.

    rewarded: the batch with the bonus [T, B] in its rewards.
    """
    paid = jnp.sum(jnp.where(rewarded.valid, jnp.abs(rewarded.reward - bonus), 0.0))
    extra = jnp.sum(jnp.abs(bonus))
    return extra / jnp.maximum(extra + paid, 1e-30)


def check(alpha: float, beta: float, k: int, star_weight: float) -> None:
    """Raise SettingError for values the equations do not allow."""
    if not 0 < alpha <= 1:
        raise SettingError(f"weighting.alpha must be more than 0 and at most 1 (got {alpha})")
    if beta < 0:
        raise SettingError(f"weighting.beta must be at least 0 (got {beta})")
    if not 1 <= k <= 64:
        raise SettingError(f"weighting.k must be between 1 and 64 (got {k})")
    if star_weight <= 0:
        raise SettingError(f"weighting.star_weight must be more than 0 (got {star_weight})")
