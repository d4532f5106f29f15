"""The settings of GradPS."""

from __future__ import annotations

from typing import Literal, NamedTuple

from gpgrad.errors import SettingError
from gpgrad.methods.sharing.clustering import Labels, Laplacian, Sigma
from gpgrad.methods.sharing.gradps.clones import RestoreLoss
from gpgrad.methods.sharing.gradps.conflict import Threshold
from gpgrad.methods.sharing.gradps.lifecycle import RestoreBy
from gpgrad.types import NetSpec

Groups = Literal["spectral", "random", "roles"]


class Settings(NamedTuple):
    """Settings with the paper's values for SMAC; presets of environments have their own k, T and rho.

    k: clones of an opened neuron, K; with as many as agents each is a group. T: target-update periods of a window.
    threshold: which neurons are futile. alpha: the efficiency below which they are, for `fixed`. ratio: the same as a
        share of the mean (`rel_mean`) or of what chance gives (`null`). deviations: below the median, for `mad`.
    groups: `spectral` by conflict; `random` of the same sizes and hidden `roles` are controls.
    laplacian, labels, sigma: how spectral clustering cuts. normalise: conflict as a share of the magnitudes.
    clone_bias: clones have biases of their own. copy_moments: new clones begin with the optimiser's memory.
    restore_by: how unlike clones are, by which those to restore are chosen.
    rho: restoring begins with this probability times the cloned fraction, for the clones most alike by `restore_by`;
        restore_per_neuron: for each neuron by itself. restore_loss, restore_lr: what draws them together, how fast.
    close_below: mean absolute deviation of clones that are merged; restore_periods: after these they are in any case.
    layers: which dense layers before the GRU, from 0. watched: neurons whose gradients of each agent are logged.
    """

    k: int = 3
    T: int = 20
    threshold: Threshold = "fixed"
    alpha: float = 0.2
    ratio: float = 0.5
    deviations: float = 2.5
    groups: Groups = "spectral"
    laplacian: Laplacian = "sym"
    labels: Labels = "kmeans"
    sigma: Sigma = "median"
    normalise: bool = False
    clone_bias: bool = True
    copy_moments: bool = True
    rho: float = 0.05
    restore_by: RestoreBy = "variance"
    restore_per_neuron: bool = False
    restore_loss: RestoreLoss = "l1"
    restore_lr: float = 0.005
    close_below: float = 0.005
    restore_periods: int = 10
    layers: tuple[int, ...] = (0,)
    watched: tuple[int, ...] = (0,)


def check(net: NetSpec, s: Settings) -> None:
    """Raise SettingError for values that are not allowed."""
    whole = {"k": s.k, "T": s.T, "restore_periods": s.restore_periods}
    for name, value in whole.items():
        if value < 1:
            raise SettingError(f"sharing.{name} must be at least 1 (got {value})")
    if not 0 <= s.rho <= 1:
        raise SettingError(f"sharing.rho must be between 0 and 1 (got {s.rho})")
    for name, value in {"alpha": s.alpha, "ratio": s.ratio}.items():
        if not 0 < value < 1:
            raise SettingError(f"sharing.{name} must be more than 0 and less than 1 (got {value})")
    for name, value in {"deviations": s.deviations, "restore_lr": s.restore_lr, "close_below": s.close_below}.items():
        if value < 0:
            raise SettingError(f"sharing.{name} must be at least 0 (got {value})")
    for name, indices, end in (("layers", s.layers, net.layers), ("watched", s.watched, net.hidden)):
        if not indices or len(set(indices)) < len(indices) or not all(0 <= i < end for i in indices):
            raise SettingError(f"sharing.{name} must be different numbers between 0 and {end - 1} (got {indices})")
