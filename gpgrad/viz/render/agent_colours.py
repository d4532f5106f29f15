"""Groups of agents that share parameters, for the colours of agents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Grouping(NamedTuple):
    """groups: int [A], numbered from 0 by appearance. words: explanation for the legend."""

    groups: np.ndarray
    words: str


def grouping(reported: np.ndarray | None, n_agents: int) -> Grouping:
    """From `groups` of a sharing scheme's report: [A], or [N, A] where every neuron has groups of its own.

    Neurons that group the same agents together are counted, whatever numbers their clones have, and the grouping that
    most of the cloned ones have is shown.
    """
    if reported is None:
        return Grouping(np.zeros(n_agents, int), "")
    reported = np.asarray(reported)
    if reported.ndim == 1:
        return Grouping(_by_appearance(reported), f"{len(set(reported.tolist()))} groups of agents")
    partitions = [tuple(_by_appearance(row).tolist()) for row in reported]
    split = [partition for partition in partitions if any(partition)]
    if not split:
        return Grouping(np.zeros(n_agents, int), "no neuron is cloned")
    most = max(sorted(set(split)), key=split.count)
    return Grouping(np.array(most), f"groups of {split.count(most)} of {len(split)} cloned neurons")


def _by_appearance(labels: np.ndarray) -> np.ndarray:
    order = list(dict.fromkeys(labels.tolist()))
    return np.array([order.index(label) for label in labels.tolist()])
