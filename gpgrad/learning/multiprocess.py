"""Several processes, on one computer or many, that train one run together, each its share of the seeds.

All run the same programs in the same order on the devices of all. Decisions that depend on a process's own clock or on
a signal are agreed upon first; process 0 alone reads and writes files, and broadcasts what it reads. With a single
process nothing here does anything.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from gpgrad.errors import SettingError
from gpgrad.learning import devices
from gpgrad.types import PyTree

T = TypeVar("T")


def join(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Make this process one of several. Must come before anything runs on a device.

    coordinator: HOST:PORT of process 0. Without any of the three, Slurm, Open MPI or a TPU pod says who is who. Raises
    SettingError where they cannot find each other.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, processes, index)
    except (RuntimeError, ValueError) as error:
        raise SettingError(
            f"the processes of the run cannot be brought together: {' '.join(str(error).split())}"
        ) from None


class Lost(OSError):
    """A computation that the processes share broke off."""


@contextmanager
def together() -> Iterator[None]:
    """What the processes do in step: where one fails, none of them waits for it.

    Python's usual end would first wait minutes for the others, and they for it. Raises Lost if another was lost.
    """
    try:
        yield
    except Exception as error:
        if not several():
            raise
        atexit.register(_leave, 2 if isinstance(error, SettingError) else 1)
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):  # Gloo's are ValueErrors
            reason = str(error).splitlines()[0]
            raise Lost(f"another process was lost, or a device failed ({reason})") from error
        raise


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def several() -> bool:
    """Whether other processes take part."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that reads and writes."""
    return jax.process_index() == 0


def agree(value: int) -> int:
    """Process 0's number, on all."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if several() else value


def largest(value: int) -> int:
    """The largest of all processes' numbers, on all."""
    return int(np.max(multihost_utils.process_allgather(np.int32(value)))) if several() else value


def at_first(action: Callable[[], T], otherwise: T) -> T:
    """What process 0 gets from an action; the others get `otherwise`, or an error where it failed."""
    if not several():
        return action()
    if not first():
        if not agree(0):
            raise SettingError("process 0 could not do its part and says why")
        return otherwise
    try:
        result = action()
    except BaseException:
        agree(0)
        raise
    agree(1)
    return result


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def fetch(tree: PyTree) -> PyTree:
    """Copies as NumPy arrays, whole on every process; random keys as the numbers under them."""
    return jax.tree.map(_fetch, tree)


def _fetch(leaf: Any) -> np.ndarray:
    leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        return np.array(multihost_utils.process_allgather(leaf, tiled=True))
    return np.array(leaf)


def broadcast(tree: PyTree | None, template: PyTree, n_devices: int) -> PyTree | None:
    """Process 0's arrays on the devices of all, seeds apart where leaves have them; None if it has none.

    template: shapes and dtypes of them. Leaves with an axis are taken to start with the seed axis.
    """
    if not agree(int(tree is not None)):
        return None

    def nothing(like: Any) -> np.ndarray:
        data = jax.eval_shape(jax.random.key_data, like) if is_key(like) else like
        return np.zeros(data.shape, data.dtype)

    local = jax.tree.map(nothing, template) if tree is None else fetch(tree)
    local = multihost_utils.broadcast_one_to_all(local)
    mesh = devices.mesh(n_devices)

    def place(data: Any, like: Any) -> Any:
        data = np.asarray(data, jax.eval_shape(jax.random.key_data, like).dtype if is_key(like) else like.dtype)
        if not like.ndim:
            return data
        spread = NamedSharding(mesh, PartitionSpec(devices.AXIS))
        array = jax.make_array_from_callback(data.shape, spread, lambda index: data[index])
        return jax.jit(jax.random.wrap_key_data)(array) if is_key(like) else array

    return jax.tree.map(place, local, template)
