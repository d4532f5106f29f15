"""Which agents are alike: an encoder of each agent's identity, from which a decoder predicts the next observation.

Selective parameter sharing (Christianos et al. 2021): identities that explain transitions in the same way get similar
latents, and clusters of latents are groups of agents.

Axes in comments: A agents, M drawn steps, O observation size, U actions, Z latent size.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gpgrad.envs.api import EnvSpec
from gpgrad.errors import SettingError
from gpgrad.methods import optimisers
from gpgrad.methods.nets import layers
from gpgrad.methods.nets.layers import Dense
from gpgrad.methods.sharing import clustering
from gpgrad.types import Metrics, PyTree, Transitions

LATENT, HIDDEN = 10, 64
LR, KL_WEIGHT = 3e-4, 1e-4

Draw = Callable[[jax.Array, int], Transitions]


class Settings(NamedTuple):
    """k: groups; None chooses by the Davies-Bouldin index among 2..A/2. episodes: collected before the groups are
    found, everybody being alike until then. epochs, batch: minibatches are as many as so many passes over full-length
    episodes take, of so many agents' steps.
    """

    k: int | None
    episodes: int
    epochs: int
    batch: int


class Groups(NamedTuple):
    """of: int32 [A], every agent's group, zeros at first. loss: float32 [], of the last minibatch, NaN at first.
    latents: float32 [A, Z].
    """

    of: jax.Array
    loss: jax.Array
    latents: jax.Array


class Model(NamedTuple):
    """encoder: from an agent's identity to the mean and log variance of its latent. decoder: from latent, observation
    and action to the next observation and the reward.
    """

    encoder: tuple[Dense, ...]
    decoder: tuple[Dense, ...]


def check(settings: Settings) -> None:
    """Raise SettingError for values that are not allowed."""
    for name, value in settings._asdict().items():
        if value is not None and value < 1:
            least = "at least 1, or none to choose" if name == "k" else "at least 1"
            raise SettingError(f"sharing.{name} must be {least} (got {value})")


def most_groups(settings: Settings, n_agents: int) -> int:
    """How many groups there may be. Where they are chosen, no more than pairs make: a single has no scatter, so the
    index would nearly always end at as many singles as it is let.
    """
    return min(n_agents, max(2, n_agents // 2) if settings.k is None else settings.k)


def nobody(n_agents: int) -> Groups:
    """Before anything is known: one group."""
    return Groups(jnp.zeros(n_agents, jnp.int32), jnp.full((), jnp.nan), jnp.zeros((n_agents, LATENT)))


def first_known(groups: Groups, old: PyTree, new: PyTree) -> PyTree:
    """`old` if the groups were known already, as in a team that is trained further, else `new`."""
    known = ~jnp.isnan(groups.loss)
    return jax.tree.map(lambda one, other: jnp.where(known, one, other), old, new)


def find(key: jax.Array, spec: EnvSpec, settings: Settings, draw: Draw) -> Groups:
    """Groups of agents that explain transitions alike: a model is trained, its latents are clustered.

    Source: SePS (ICML 2021).
    """
    latents, loss = embed(key, spec, settings, draw)
    most = most_groups(settings, spec.n_agents)
    if settings.k is None and most > 2:
        labels = clustering.kmeans_by_separation(latents, most)
    else:
        labels = clustering.kmeans(latents, most)
    return Groups(clustering.by_appearance(labels, most), loss, latents)


def embed(key: jax.Array, spec: EnvSpec, settings: Settings, draw: Draw) -> tuple[jax.Array, jax.Array]:
    """Train encoder and decoder: the agents' latent means [A, Z] and the loss of the last minibatch.

    Source: SePS (ICML 2021), the variational autoencoder on agents' identities.
    """
    k_model, k_steps = jax.random.split(key)
    model, optimiser = new_model(k_model, spec), optimisers.make("adam", LR)
    count = -(-settings.batch // spec.n_agents)
    rows = settings.episodes * spec.episode_limit * spec.n_agents
    updates = -(-settings.epochs * rows // settings.batch)

    def update(index: jax.Array, carry: tuple) -> tuple:
        model, slots, _ = carry
        k_draw, k_noise = jax.random.split(jax.random.fold_in(k_steps, index))
        loss, grads = jax.value_and_grad(model_loss)(model, draw(k_draw, count), k_noise, spec)
        steps, slots = optimiser.update(grads, slots)
        return optax.apply_updates(model, steps), slots, loss

    start = (model, optimiser.init(model), jnp.zeros(()))  # type: ignore[arg-type]
    model, _, loss = jax.lax.fori_loop(0, updates, update, start)
    return encode(model, spec.n_agents)[0], loss


def new_model(key: jax.Array, spec: EnvSpec) -> Model:
    """Freshly drawn layers."""

    def chain(key: jax.Array, *sizes: int) -> tuple[Dense, ...]:
        keys = jax.random.split(key, len(sizes) - 1)
        return tuple(layers.init_dense(k, *pair) for k, pair in zip(keys, pairwise(sizes), strict=True))

    k_encoder, k_decoder = jax.random.split(key)
    seen = LATENT + spec.obs_dim + spec.n_actions
    return Model(
        chain(k_encoder, spec.n_agents, HIDDEN, 2 * LATENT), chain(k_decoder, seen, HIDDEN, HIDDEN, spec.obs_dim + 1)
    )


def apply(chain: tuple[Dense, ...], x: jax.Array) -> jax.Array:
    """Dense layers with ReLU between them."""
    for layer in chain[:-1]:
        x = jax.nn.relu(layers.dense(layer, x))
    return layers.dense(chain[-1], x)


def encode(model: Model, n_agents: int) -> tuple[jax.Array, jax.Array]:
    """Mean and log variance of every agent's latent, [A, Z] each.

    Source: SePS (ICML 2021), the encoder of agents' identities.
    """
    mean, log_variance = jnp.split(apply(model.encoder, jnp.eye(n_agents)), 2, axis=-1)
    return mean, log_variance


def model_loss(model: Model, seen: Transitions, key: jax.Array, spec: EnvSpec) -> jax.Array:
    """Squared error of next observation and reward plus the latents' divergence from a normal distribution, both
    summed over dimensions, mean over agents' steps.

    The divergence of N(mean, exp(log_variance)) from N(0, 1) is (mean^2 + exp(log_variance) - 1 - log_variance) / 2.

    Source: SePS (ICML 2021), the negative evidence lower bound, with the weights of its code.
    """
    mean, log_variance = encode(model, spec.n_agents)
    noise = jax.random.normal(key, (len(seen.reward), *mean.shape))
    latents = mean + noise * jnp.exp(0.5 * log_variance)  # [M, A, Z]
    action = jax.nn.one_hot(seen.actions, spec.n_actions)
    predicted = apply(model.decoder, jnp.concatenate([latents, seen.obs, action], -1))  # [M, A, O + 1]
    reward = jnp.broadcast_to(seen.reward[:, None, None], (*predicted.shape[:-1], 1))
    error = jnp.square(predicted - jnp.concatenate([seen.next_obs, reward], -1)).sum(-1)
    divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(-1)
    return error.mean() + KL_WEIGHT * divergence.mean()


def describe(groups: Groups) -> Metrics:
    """For the rows of a test; `fit_loss` is NaN until the groups are known."""
    return {"groups": groups.of, "fit_loss": groups.loss}
