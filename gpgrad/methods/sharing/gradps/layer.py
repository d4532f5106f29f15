"""One layer under GradPS: the window of gradients it watches, and what happens to its neurons when a period ends.

Axes in comments: T periods, A agents, N neurons, R draws.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.methods.nets.layers import Dense
from gpgrad.methods.sharing import clustering
from gpgrad.methods.sharing.clustering import spectral_groups
from gpgrad.methods.sharing.gradps import clones, conflict, lifecycle
from gpgrad.methods.sharing.gradps.conflict import neuron_conflict, neuron_efficiency
from gpgrad.methods.sharing.gradps.lifecycle import CLONED, RESTORING, SHARED, NeuronStatus
from gpgrad.methods.sharing.gradps.settings import Settings
from gpgrad.types import Metrics


class Measures(NamedTuple):
    """What the full periods of a window say, NaN before the first: efficiency of all agents together, with agents
    apart that use different clones, and expected of random signs, all [N]. futile_chance: percentage of futile
    neurons under random signs, [].
    """

    efficiency: jax.Array
    group: jax.Array
    chance: jax.Array
    futile_chance: jax.Array


class Counts(NamedTuple):
    """Scalars: neurons opened and closed so far, restores begun and expected, and the first opening's target update
    and the episodes collected by then; -1 for none.
    """

    opened: jax.Array
    closed: jax.Array
    restores: jax.Array
    restores_expected: jax.Array
    first_opening: jax.Array
    first_opening_episodes: jax.Array


class LayerState(NamedTuple):
    """One layer. life: each neuron's status. total [A, N]: neuron gradients of the current period. ring [T, A, N]:
    those of the last T full periods, newest first.
    """

    life: NeuronStatus
    total: jax.Array
    ring: jax.Array
    measures: Measures
    counts: Counts


def start(periods: int, n_agents: int, width: int) -> LayerState:
    """Nothing seen, nothing cloned. periods: T of the window."""
    nothing = jnp.full(width, jnp.nan)
    return LayerState(
        lifecycle.start(width, n_agents),
        jnp.zeros((n_agents, width)),
        jnp.zeros((periods, n_agents, width)),
        Measures(nothing, nothing, nothing, nothing[0]),
        Counts(jnp.int32(0), jnp.int32(0), jnp.int32(0), jnp.zeros(()), jnp.int32(-1), jnp.int32(-1)),
    )


def restart(layer: LayerState) -> LayerState:
    """The same clones with an empty window."""
    periods, n_agents, width = layer.ring.shape
    none = jnp.zeros_like(layer.life.age)
    return start(periods, n_agents, width)._replace(life=layer.life._replace(age=none, restoring_for=none))


def end_period(
    key: jax.Array,
    settings: Settings,
    k: int,
    trees: list[Dense],
    layer: LayerState,
    periods: jax.Array,
    episodes: jax.Array,
    roles: jax.Array,
) -> tuple[list[Dense], LayerState]:
    """One layer at the end of a period. trees: its parameters, then the optimiser's slots of the same shape.

    Source: GradPS (ICML 2025), Algorithm 2, lines 18 to 32.
    """
    k_restore, k_groups, k_chance = jax.random.split(key, 3)
    neurons, measures = layer.life, layer.measures
    variance, deviation = clones.spread(trees[0]["kernel"], neurons.assign)
    restore, expected = lifecycle.select_restoring(
        k_restore, neurons, variance, settings.rho, settings.restore_by, settings.restore_per_neuron
    )
    overdue = (neurons.status == RESTORING) & (neurons.restoring_for + 1 >= settings.restore_periods)
    groups = _groups(k_groups, settings, k, layer.ring, roles)
    divided = (groups != groups[:, :1]).any(1)  # a single clone for all agents would be the neuron itself
    after, step = lifecycle.advance(
        neurons,
        restore,
        divided & (measures.efficiency < _futile_below(settings, measures, neurons)),
        (deviation < settings.close_below) | overdue,
        groups,
        settings.T,
    )
    trees = [clones.merge_slots(clones.open_slots(tree, step.opened), step.closed, neurons.assign) for tree in trees]
    if not settings.copy_moments:
        trees = [trees[0], *(clones.clear_clones(tree, step.opened) for tree in trees[1:])]
    ring = jnp.concatenate([layer.total[None], layer.ring[:-1]])
    counts = layer.counts
    first = step.opened.any() & (counts.first_opening < 0)
    counts = Counts(
        counts.opened + step.opened.sum(),
        counts.closed + step.closed.sum(),
        counts.restores + restore.sum(),
        counts.restores_expected + expected,
        jnp.where(first, periods, counts.first_opening),
        jnp.where(first, episodes, counts.first_opening_episodes),
    )
    measures = _measure(k_chance, settings, k, ring, after, periods)
    return trees, LayerState(after, jnp.zeros_like(layer.total), ring, measures, counts)


def _groups(key: jax.Array, settings: Settings, k: int, ring: jax.Array, roles: jax.Array) -> jax.Array:
    """The groups each neuron would get if it opened now: int32 [N, A]."""
    width, n_agents = ring.shape[-1], ring.shape[-2]
    if settings.groups == "roles":
        labels = clustering.by_appearance(jnp.clip(roles, 0, k - 1), k)
        return jnp.broadcast_to(labels, (width, n_agents))
    conflicts = neuron_conflict(ring, settings.normalise)
    labels = spectral_groups(conflicts, k, settings.laplacian, settings.labels, settings.sigma)
    if settings.groups == "random":
        labels = jax.random.permutation(key, labels, axis=1, independent=True)
        labels = jax.vmap(lambda row: clustering.by_appearance(row, k))(labels)
    return labels


def _measure(
    key: jax.Array, settings: Settings, k: int, ring: jax.Array, neurons: NeuronStatus, periods: jax.Array
) -> Measures:
    counted = jnp.arange(settings.T) < periods
    draws = conflict.chance_efficiency(key, ring, counted)  # [R, N]
    measures = Measures(
        neuron_efficiency(ring, counted),
        conflict.group_efficiency(ring, neurons.assign, k, counted),
        draws.mean(0),
        jnp.zeros(()),
    )
    return measures._replace(futile_chance=100 * (draws < _futile_below(settings, measures, neurons)).mean())


def _futile_below(settings: Settings, measures: Measures, neurons: NeuronStatus) -> jax.Array:
    return conflict.futile_below(
        measures.efficiency,
        measures.chance,
        lifecycle.ripe(neurons, settings.T),
        settings.threshold,
        settings.alpha,
        settings.ratio,
        settings.deviations,
    )


def describe(settings: Settings, layer: LayerState) -> Metrics:
    """A layer's metrics. `futile*` are percentages of the neurons, `conflict*` [A, A] means over them."""
    measures, neurons = layer.measures, layer.life
    below = _futile_below(settings, measures, neurons)
    known = ~jnp.isnan(measures.futile_chance)

    def percentage(efficiency: jax.Array) -> jax.Array:
        return jnp.where(known, 100 * (efficiency < below).mean(), jnp.nan)

    return {
        "efficiency": measures.efficiency,
        "efficiency_group": measures.group,
        "efficiency_chance": measures.chance,
        "futile": percentage(measures.efficiency),
        "futile_group": percentage(measures.group),
        "futile_chance": measures.futile_chance,
        "cloned": (neurons.status == CLONED).sum(),
        "restoring": (neurons.status == RESTORING).sum(),
        **layer.counts._asdict(),
        "groups": jnp.where((neurons.status == SHARED)[:, None], 0, neurons.assign),
        "conflict": neuron_conflict(layer.ring).mean(0),
        "conflict_normalised": neuron_conflict(layer.ring, normalise=True).mean(0),
        "neuron_gradients": layer.ring[0][:, jnp.array(settings.watched, jnp.int32)].T,
    }
