"""How to tell from a run's rows whether a method acted in it. No jax here: reports read this.

Each method that can stay idle brings an `ActivityCheck`, which `registry.register` or its table names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


def _always(options: Mapping[str, Any]) -> bool:
    del options
    return True


class ActivityCheck(NamedTuple):
    """What a method must have done at least for a run to be evidence about it.

    about: what a run without it is no evidence about. metric: the amount in rows; further layers have longer names.
    words: that amount in words. least: what some test of a run must reach. too_little: the end of the sentence.
    intended(options): whether a run with these settings of the part is meant to do it at all; controls are not.
    """

    about: str
    metric: str
    words: str
    least: float
    too_little: str
    intended: Callable[[Mapping[str, Any]], bool] = _always
