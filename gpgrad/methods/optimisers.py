"""Optimisers with PyTorch's arithmetic, and access to their slots of the parameters' shape."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from gpgrad.types import PyTree

Extended = optax.GradientTransformationExtraArgs
Optimiser = Literal["rmsprop", "adam", "sgd"]


def make(name: Optimiser, lr: float) -> optax.GradientTransformation:
    """`rmsprop`: decay 0.99, epsilon 1e-5 outside the root, slots from zero. `adam`: 0.9, 0.999, 1e-8. `sgd`: plain.

    Source: PyTorch's optimisers with the constants of PyMARL and PyMARL2.
    """
    if name == "rmsprop":
        return optax.rmsprop(lr, decay=0.99, eps=1e-5, eps_in_sqrt=False, initial_scale=0.0)
    return {"adam": optax.adam, "sgd": optax.sgd}[name](lr)


def with_separate(usual: optax.GradientTransformation, second: optax.GradientTransformation | None) -> Extended:
    """Two optimisers of the same parameters, each with its own state: update(..., separate_optimiser=[] bool) lets the
    second take the step. Without a second the first takes every step.
    """
    if second is None:
        return optax.with_extra_args_support(usual)

    def init(params: PyTree) -> PyTree:
        return usual.init(params), second.init(params)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, *, separate_optimiser: jax.Array | bool = False, **_
    ):
        def pick(if_second: PyTree, otherwise: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(separate_optimiser, a, b), if_second, otherwise)

        steps, memory = usual.update(updates, state[0], params)
        second_steps, second_memory = second.update(updates, state[1], params)
        return pick(second_steps, steps), (pick(state[0], memory), pick(second_memory, state[1]))

    return optax.GradientTransformationExtraArgs(init, update)


def clip_scale(grads: PyTree, max_norm: float) -> tuple[jax.Array, jax.Array]:
    """The factor that clips gradients to a global norm, min(1, max / (norm + 1e-6)), and the norm.

    Source: PyTorch's clip_grad_norm_.
    """
    norm = optax.tree.norm(grads)
    return jnp.minimum(1.0, max_norm / (norm + 1e-6)), norm


def moments(opt_state: PyTree, params: PyTree) -> list[PyTree]:
    """The optimiser's slots that have the structure of the parameters, in order."""
    structure = jax.tree.structure(params)
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: jax.tree.structure(node) == structure)
    return [node for node in nodes if jax.tree.structure(node) == structure]


def with_moments(opt_state: PyTree, params: PyTree, new: list[PyTree]) -> PyTree:
    """The optimiser state with the slots that `moments` gives replaced."""
    structure = jax.tree.structure(params)
    nodes, outer = jax.tree.flatten(opt_state, is_leaf=lambda node: jax.tree.structure(node) == structure)
    replacements = iter(new)
    return outer.unflatten([next(replacements) if jax.tree.structure(node) == structure else node for node in nodes])
