"""The interface of weightings: the weight of each transition's loss, and a bonus to its reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from gpgrad.types import Batch, Clock, Metrics, PyTree, Terms


class Weighting(NamedTuple):
    """A weighting of transitions.

    init(key, state) -> weighting state; `state` is an example of `View.state` without batch axes.
    record(weighting state, clock, states [N, ...], valid [N]) -> weighting state, when episodes are collected.
    prepare(weighting state, clock, batch) -> (weighting state, aux), once per gradient step before the targets.
    bonus(weighting state, aux) -> float32 [T, B], added to the reward in the target only.
    weights(weighting state, aux, batch, terms) -> (float32 [T, B], log), without gradient.
    resize(weighting state of a run with a smaller t_max) -> weighting state, where its shapes follow `Context.t_max`.
    """

    init: Callable[[jax.Array, PyTree], PyTree]
    record: Callable[[PyTree, Clock, PyTree, jax.Array], PyTree]
    prepare: Callable[[PyTree, Clock, Batch], tuple[PyTree, PyTree]]
    bonus: Callable[[PyTree, PyTree], jax.Array]
    weights: Callable[[PyTree, PyTree, Batch, Terms], tuple[jax.Array, Metrics]]
    resize: Callable[[PyTree], PyTree] = lambda state: state
