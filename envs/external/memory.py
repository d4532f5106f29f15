"""Arrays shared by the trainer and all workers: one anonymous block of memory, which no crash can leave behind."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpgrad.envs.external.adapters.spaces import truth
from gpgrad.envs.external.protocol import Outcome, Seen, Sizes

_ALIGNMENT = 64


def layout(sizes: Sizes, lanes: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of every array. seconds: duration of the simulator's last call."""
    n, a = lanes, sizes.n_agents
    return {
        "obs": ((n, a, sizes.obs_dim), np.uint8 if sizes.obs_bytes else np.float32),
        "avail": ((n, a, sizes.n_actions), np.bool_),
        "state": ((n, sizes.state_dim), np.float32),
        "actions": ((n, a), np.int32),
        "seed": ((n,), np.uint64),
        "reward": ((n,), np.float32),
        "terminated": ((n,), np.bool_),
        "truncated": ((n,), np.bool_),
        "info": ((n, len(sizes.info)), np.float32),
        "seconds": ((n,), np.float64),
    }


class Block:
    """The arrays of `layout` as attributes, in memory behind a file descriptor."""

    obs: np.ndarray
    avail: np.ndarray
    state: np.ndarray
    actions: np.ndarray
    seed: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    info: np.ndarray
    seconds: np.ndarray

    def __init__(self, sizes: Sizes, lanes: int, descriptor: int | None = None) -> None:
        """A new block, or the existing one of a descriptor."""
        self.sizes = sizes
        places, end = {}, 0
        for name, (shape, dtype) in layout(sizes, lanes).items():
            places[name] = (end, shape, dtype)
            end += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
        self.descriptor = unnamed(end) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, max(end, 1))
        for name, (start, shape, dtype) in places.items():
            count = int(np.prod(shape))
            setattr(self, name, np.frombuffer(self._memory, dtype, count, start).reshape(shape))

    def write(self, lane: int, outcome: Outcome) -> None:
        """Write a simulator's result into the shared arrays. Raises ValueError for invalid values."""
        sizes, seen = self.sizes, outcome.seen
        if not isinstance(seen, Seen):
            raise ValueError(f"observations must be a gpgrad.envs.external.protocol.Seen (got a {type(seen).__name__})")
        if not isinstance(outcome.info, Mapping):
            raise ValueError(f"info must be a dict of numbers (got {outcome.info!r})")
        obs = _checked("observation", seen.obs, self.obs[lane].shape)
        if sizes.obs_bytes and (obs != np.clip(np.rint(obs), 0, 255)).any():
            raise ValueError("the observation must be whole numbers of 0 to 255, since obs_bytes is true")
        avail = _checked("availability", seen.avail, self.avail[lane].shape).astype(bool)
        if not avail.any(-1).all():
            raise ValueError(f"no action is available to agents {np.flatnonzero(~avail.any(-1)).tolist()}")
        state = _checked("state", seen.state, self.state[lane].shape) if sizes.state_dim else None
        reward = number("the reward", outcome.reward)
        info = [number(f"info[{name!r}]", outcome.info.get(name, 0.0)) for name in sizes.info]
        over, cut = truth(outcome.terminated, "terminated"), truth(outcome.truncated, "truncated")
        self.obs[lane], self.avail[lane] = obs, avail
        if state is not None:
            self.state[lane] = state
        self.reward[lane], self.info[lane] = reward, info
        self.terminated[lane], self.truncated[lane] = over, cut and not over


def number(what: str, value: Any) -> np.float32:
    """A number, or an array of one number, as float32.

    Raises ValueError for anything else, and for numbers that are not finite as float32, such as 1e300.
    """
    array = _array(what, value)
    if array.size != 1:
        raise ValueError(f"{what} must be a single number (got the shape {array.shape})")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite as float32, of at most {np.finfo(np.float32).max:.3g} (got {value})")
    return np.float32(array.ravel()[0])


def unnamed(size: int) -> int:
    """A file descriptor of memory that is freed with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("gpgrad")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, max(size, 1))
    return descriptor


def _checked(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = _array(f"the {what}", value)
    if array.shape != shape:
        raise ValueError(f"the {what} must have the shape {shape} (got {array.shape})")
    if not np.isfinite(array).all():
        raise ValueError(f"the {what} has values that are not finite as float32")
    return array


def _array(what: str, value: Any) -> np.ndarray:
    """The value as float32, infinite if it is out of range. Raises ValueError if it is not numeric."""
    try:
        if value is None:  # which NumPy would take for nan
            raise TypeError
        with np.errstate(over="ignore"):
            return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        text = " ".join(repr(value).split())
        raise ValueError(f"{what} must be numbers in an array of one shape (got {text[:80]})") from None
