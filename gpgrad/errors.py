"""Errors a user can mend, without importing jax."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 40  # names in a sentence


class SettingError(ValueError):
    """A setting a user can mend. The message says in one sentence what was wrong and what it must be."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest valid one, or many of them if none is near."""
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    more = f" and {len(valid) - MOST} more" if len(valid) > MOST else ""
    return f"; valid names are {', '.join(valid[:MOST]) or 'none'}{more}"
