"""GPVD: gradient-protected value decomposition (Hou et al., AAAI 2026).

Joint actions that share some agents' actions with the best joint action of a state pull the shared utilities away
from it (gradient interference, Def. 2). Transitions are grouped by the SimHash code of their state (Eq. 5 and 6). In
each group the transition with the highest target above the current maximum of Q_tot is protected: transitions that
share an action with it and have a TD error of the opposite sign get weight alpha (Eq. 7) in the loss (Eq. 8). A bonus
for rarely visited codes helps to find such joint actions (Eq. 9).

Axes in comments: N = T * B transitions, t-major; A agents.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.errors import SettingError
from gpgrad.methods.weighting import simhash, visits
from gpgrad.methods.weighting.base import Weighting
from gpgrad.types import Batch, Clock, Context, Metrics, PyTree, Terms

NUMERICS = 2

Grouping = Literal["batch", "exact", "single"]
StarScope = Literal["same_sign", "all"]  # of the transitions with the protected joint action, those that weigh more
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


class Transitions(NamedTuple):
    """A batch's transitions in a row, all with the leading axis N.

    buckets: int32 in 0..N-1 where valid. actions: int [N, A]. targets, q_tot, q_tot_max: float, the TD error is
    q_tot - targets and q_tot_max the largest Q_tot over joint actions. valid: bool; where false the rest may hold
    anything. relevant: bool [N, A], agents whose actions can be shared; None: all.
    """

    buckets: jax.Array
    actions: jax.Array
    targets: jax.Array
    q_tot: jax.Array
    q_tot_max: jax.Array
    valid: jax.Array
    relevant: jax.Array | None = None


class Protection(NamedTuple):
    """The classes of transitions that Eq. 7 distinguishes.

    star: int32 [N], index of the protected transition of its bucket, N where there is none. same: bool [N], it has
    that transition's joint action. agrees: bool [N], it has that joint action and a TD error of the same sign.
    conflict: bool [N], it interferes with the protected transition.
    """

    star: jax.Array
    same: jax.Array
    agrees: jax.Array
    conflict: jax.Array


def best_of_bucket(buckets: jax.Array, eligible: jax.Array, values: jax.Array) -> jax.Array:
    """Index of the highest eligible value in each row's bucket, the lowest index on ties: int32 [N], N for none.

    With targets above max Q_tot as values it is a^{c*}, the optimal collaborative joint action of a bucket.

    Source: GPVD (AAAI 2026), Gradient Protection Mechanism, definition of a^{c*} (before Eq. 7).
    """
    n = buckets.shape[0]
    place = jnp.where(eligible, buckets, n)  # out of range: dropped by segment operations
    highest = jax.ops.segment_max(jnp.where(eligible, values, -jnp.inf), place, n)
    winner = eligible & (values == highest[buckets])
    first = jax.ops.segment_min(jnp.where(winner, jnp.arange(n), n), place, n)
    return jnp.where(buckets >= 0, jnp.minimum(first[buckets], n), n)


def overlap(rows: Transitions, partner: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether joint actions equal those of partner [N], and whether they share some actions but not all: bool [N].

    The second is membership in A_partial of the partner's joint action.

    Source: GPVD (AAAI 2026), Def. 1, Eq. 2.
    """
    equal = rows.actions == rows.actions[jnp.minimum(partner, len(partner) - 1)]
    same = jnp.all(equal, axis=-1)
    shared = equal if rows.relevant is None else equal & rows.relevant
    return same, jnp.any(shared, axis=-1) & ~same


def sign_product(rows: Transitions, partner: jax.Array) -> jax.Array:
    """Sign of the TD error times that of partner [N]: float [N]; -1 is gradient interference.

    The gradient of the squared TD error in each utility is the TD error times a non-negative factor (Eq. 3), so two
    transitions pull a shared utility in opposite directions exactly where the product of their TD errors is negative.

    Source: GPVD (AAAI 2026), Def. 2, Eq. 3, Eq. 4.
    """
    delta = jnp.sign(rows.q_tot - rows.targets)
    return delta * delta[jnp.minimum(partner, len(partner) - 1)]


def protect(rows: Transitions) -> Protection:
    """Find protected and interfering transitions.

    Where q_tot_max is the maximum over all joint actions, the protected transition's TD error is negative: its target
    exceeds q_tot_max >= q_tot. The sign test of Eq. 4 is then the same as a positive TD error of the other transition;
    the product is kept because weightings also run on decompositions whose greedy value is not an exact maximum.

    Source: GPVD (AAAI 2026), the sets a^{c*} and a^{c*-} (before Eq. 7), Eq. 4.
    """
    star = best_of_bucket(rows.buckets, rows.valid & (rows.targets > rows.q_tot_max), rows.targets)
    same, partial = overlap(rows, star)
    protected = rows.valid & (star < len(star))
    signs = sign_product(rows, star)
    same = protected & same
    return Protection(star, same, same & (signs > 0), protected & partial & (signs < 0))


def protection_weights(
    buckets: jax.Array,
    actions: jax.Array,
    targets: jax.Array,
    q_tot: jax.Array,
    q_tot_max: jax.Array,
    valid: jax.Array,
    alpha: float,
    star_weight: float = 1.0,
    relevant: jax.Array | None = None,
    star_scope: StarScope = "same_sign",
) -> jax.Array:
    """The weights of the loss: float32 [N], 0 where a transition is not valid; arrays as in `Transitions`.

    alpha: weight of interfering transitions. star_weight: weight of transitions with the protected joint action.
    star_scope: all of these (`all`), or only those whose TD error has the protected one's sign (`same_sign`).

    Source: GPVD (AAAI 2026), Eq. 7.
    """
    rows = Transitions(buckets, actions, targets, q_tot, q_tot_max, valid, relevant)
    return weigh(protect(rows), valid, alpha, star_weight, star_scope)


def weigh(
    found: Protection, valid: jax.Array, alpha: float, star_weight: float, star_scope: StarScope = "same_sign"
) -> jax.Array:
    """Weights float32 [N] of found classes; 0 where a transition is not valid.

    Source: GPVD (AAAI 2026), Eq. 7, and the larger weight on a^{c*} that the text after it allows.
    """
    starred = found.agrees if star_scope == "same_sign" else found.same
    weights = jnp.where(found.conflict, alpha, jnp.where(starred, star_weight, 1.0))
    return jnp.where(valid, weights, 0.0)


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
    nothing. reference: the largest return of the worlds that beta and kappa are meant for, 20 in SMAC; where the
    world's own is another they are scaled to it. 0: they are in the unit of learned rewards, after
    `learner.reward_scale`.

    Source: GPVD (AAAI 2026), Eq. 5, Eq. 6, Eq. 7, Eq. 8 and Eq. 9; Table 2 for alpha, beta and k.
    """
    check(alpha, beta, k, star_weight)
    if reference < 0:
        raise SettingError(f"weighting.reference is {reference}, expected 0 or more")
    if g != "identity" and grouping != "batch":
        raise SettingError(f"weighting.g is {g}, expected identity, since grouping {grouping} has no codes")
    unit = context.spec.return_scale / reference if reference else 1.0

    bits = {"batch": k, "exact": 64, "single": 1}[grouping]

    def init(key: jax.Array, state: PyTree) -> GpvdState:
        key, _ = jax.random.split(key)
        size = state.size if isinstance(state, OneHot) else state.shape[-1]
        makers = {"batch": lambda: simhash.make_hash(key, k, size), "exact": lambda: simhash.make_salts(key, size)}
        return GpvdState(makers.get(grouping, tuple)(), visits.make_counts(bits, context.t_max))

    def code(coder: PyTree, states: PyTree, shape: tuple[int, ...]) -> jax.Array:
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
        words = code(state.coder, states, valid.shape)
        return state._replace(counts=visits.count_visits(state.counts, words, counted))

    def settle(state: GpvdState, clock: Clock, states: PyTree, valid: jax.Array) -> GpvdState:
        """Freeze g's statistics on the first batch and count its visits."""
        first = clock.updates == 0
        coder = jax.lax.cond(
            first, lambda old: simhash.standardise(old, g, states, valid), lambda old: old, state.coder
        )
        words = code(coder, states, valid.shape)
        # A loop of one turn or none updates the table in place, where a branch would copy it.
        counts = jax.lax.fori_loop(
            0, first.astype(jnp.int32), lambda _, counts: visits.count_visits(counts, words, valid), state.counts
        )
        return GpvdState(coder, counts)

    def prepare(state: GpvdState, clock: Clock, batch: Batch) -> tuple[GpvdState, Groups]:
        states = jax.tree.map(lambda leaf: leaf[:-1], batch.view.state)
        if waits:
            state = settle(state, clock, states, batch.valid)
        words = code(state.coder, states, batch.valid.shape)  # [T, B, W]
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

    def resize(state: GpvdState) -> GpvdState:
        return state._replace(counts=visits.resize(state.counts, visits.make_counts(bits, context.t_max)))

    return Weighting(init, record, prepare, lambda state, aux: aux.bonus, weights, resize)


def report(rows: Transitions, found: Protection) -> Metrics:
    """Metrics of the grouping and the protection of a batch.

    buckets: how many. share_grouped: of transitions in buckets of two or more. share_protected: of buckets with a
    protected transition. share_downweighted: of interfering transitions. share_interfering: of pairs in interference,
    where a pair is a bucket's transition of the highest target, which estimates the collaborative joint action, with
    another of the bucket.

    Source: GPVD (AAAI 2026), Def. 2, Eq. 4.
    """
    valid, n = rows.valid, len(rows.valid)
    sizes = jax.ops.segment_sum(jnp.ones(n, jnp.int32), jnp.where(valid, rows.buckets, n), n)
    count, total = (sizes > 0).sum(), jnp.maximum(valid.sum(), 1)
    lead = best_of_bucket(rows.buckets, valid, rows.targets)
    lower = rows.targets < rows.targets[jnp.minimum(lead, n - 1)]
    interfering = valid & lower & overlap(rows, lead)[1] & (sign_product(rows, lead) < 0)
    index = jnp.arange(n)
    return {
        "buckets": count.astype(jnp.float32),
        "share_grouped": jnp.where(sizes > 1, sizes, 0).sum() / total,
        "share_protected": (valid & (found.star == index)).sum() / jnp.maximum(count, 1),
        "share_downweighted": found.conflict.sum() / total,
        "share_interfering": interfering.sum() / jnp.maximum((valid & (lead != index)).sum(), 1),
    }


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
        raise SettingError(f"weighting.alpha is {alpha}, expected more than 0 and at most 1")
    if beta < 0:
        raise SettingError(f"weighting.beta is {beta}, expected 0 or more")
    if not 1 <= k <= 64:
        raise SettingError(f"weighting.k is {k}, expected between 1 and 64")
    if star_weight <= 0:
        raise SettingError(f"weighting.star_weight is {star_weight}, expected more than 0")
