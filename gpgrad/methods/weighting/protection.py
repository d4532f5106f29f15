"""GPVD's gradient protection: which transitions interfere with the protected one of their bucket, and the weights.

Axes in comments: N transitions, A agents.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.types import Metrics

StarScope = Literal["same_sign", "all"]  # of the transitions with the protected joint action, those that weigh more


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
