"""The status of each neuron: shared, cloned, restoring, then shared again. Steps are target-update periods.

Axes in comments: N neurons, A agents.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

SHARED, CLONED, RESTORING = range(3)
RestoreBy = Literal["variance", "variance_over_age"]


class NeuronStatus(NamedTuple):
    """The status of every neuron of a layer, all int32.

    status [N]: shared, cloned or restoring. age [N]: periods since it was last opened or closed, or from the start.
    restoring_for [N]: periods spent restoring. assign [N, A]: each agent's clone, 0 where the neuron is shared.
    """

    status: jax.Array
    age: jax.Array
    restoring_for: jax.Array
    assign: jax.Array


class Step(NamedTuple):
    """What happened to each neuron in a step: bool [N]."""

    opened: jax.Array
    closed: jax.Array


def start(n_neurons: int, n_agents: int) -> NeuronStatus:
    """Everything shared."""
    zeros = jnp.zeros(n_neurons, jnp.int32)
    return NeuronStatus(zeros, zeros, zeros, jnp.zeros((n_neurons, n_agents), jnp.int32))


def ripe(neurons: NeuronStatus, periods: int) -> jax.Array:
    """Shared neurons whose window will be full of periods since they last changed at the next step: bool [N].

    Source: GradPS (ICML 2025), Algorithm 2, line 18.
    """
    return (neurons.status == SHARED) & (neurons.age + 1 > periods)


def select_restoring(
    key: jax.Array, neurons: NeuronStatus, variance: jax.Array, rho: float, by: RestoreBy, per_neuron: bool
) -> tuple[jax.Array, jax.Array]:
    """Which clones begin to be restored, bool [N], and how many were expected to, float32 [].

    With probability rho times the cloned fraction the cloned neuron of the smallest variance [N] does; per_neuron:
    each cloned neuron does with that probability. `variance_over_age` prefers clones that are old.

    Source: GradPS (ICML 2025), Section 5.3. The paper says "the percentage of futile neurons"; this is the percentage
    of cloned neurons, as in the released code.
    """
    cloned = neurons.status == CLONED
    chance = rho * cloned.mean()
    if per_neuron:
        return cloned & jax.random.bernoulli(key, chance, cloned.shape), chance * cloned.sum()
    if by == "variance_over_age":
        variance = jnp.where(neurons.age > 0, variance / jnp.maximum(neurons.age, 1), jnp.inf)
    best = jnp.argmin(jnp.where(cloned, variance, jnp.inf)) == jnp.arange(len(cloned))
    return cloned & best & jax.random.bernoulli(key, chance), chance


def advance(
    neurons: NeuronStatus, restore: jax.Array, futile: jax.Array, converged: jax.Array, groups: jax.Array, periods: int
) -> tuple[NeuronStatus, Step]:
    """A period's end: clones begin to be restored, futile neurons open, converged clones close.

    restore, futile, converged: bool [N], each applied only to neurons it can happen to. groups: int32 [N, A], the
    assignment of neurons that open. periods: T, how long a neuron is shared at least.

    Source: GradPS (ICML 2025), Algorithm 2, lines 20 to 32.
    """
    status = jnp.where(restore & (neurons.status == CLONED), RESTORING, neurons.status)
    restoring_for = jnp.where(neurons.status == RESTORING, neurons.restoring_for + 1, 0)
    opened = futile & ripe(neurons, periods)
    closed = converged & (status == RESTORING)
    changed = opened | closed
    after = NeuronStatus(
        status=jnp.where(opened, CLONED, jnp.where(closed, SHARED, status)),
        age=jnp.where(changed, 0, neurons.age + 1),
        restoring_for=jnp.where(closed, 0, restoring_for),
        assign=jnp.where(opened[:, None], groups, jnp.where(closed[:, None], 0, neurons.assign)),
    )
    return after, Step(opened, closed)
