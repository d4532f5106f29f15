"""How a run is laid over devices: each has some of the seeds, or a share of every seed's batch.

Seeds need no communication. A batch needs one sum of gradients per update (`gpgrad.shards`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gpgrad.config.schema import Config
from gpgrad.errors import SettingError

AXIS = "seeds"


def require() -> None:
    """Raise SettingError where JAX finds no device, or computes in 64 bits: environments need 32 bits."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        why = " ".join(str(error).split())
        raise SettingError(
            f"JAX has no device of JAX_PLATFORMS={asked or ''}, expected one that this machine has, such as cpu"
            + (f": {why}" if why else "")
        ) from None
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise SettingError("JAX_ENABLE_X64 must be off: environments and networks compute in 32 bits")


@dataclasses.dataclass(frozen=True)
class Split:
    """What one program's devices share. by: `seeds` where each device has some of them, `batch` where each has a share
    of every seed's batch. count: of devices. why: for people.
    """

    by: Literal["seeds", "batch"]
    count: int
    why: str

    def __str__(self) -> str:
        return f"devices: {self.count}, shard {self.by} ({self.why})"


def split(config: Config) -> Split:
    """How one program is laid over devices. Raises SettingError where seeds or batches cannot be shared evenly."""
    there, asked, seeds = jax.device_count(), config.devices, config.seeds
    if asked is not None and asked > there:
        raise SettingError(f"devices must be at most {there}, the number that this machine has (got {asked})")
    if config.shard == "batch":
        used = asked or there
        if used == 1:
            return Split("seeds", 1, "there is one device, so no batch is shared")
        if obstacle := _batch_obstacle(config, used):
            raise SettingError(f"shard batch over {used} devices is not possible: {obstacle}")
        return Split("batch", used, "as asked")
    used = asked or (there if jax.process_count() > 1 else min(there, seeds))
    if seeds % used == 0:
        return Split("seeds", used, "each device has the same number of seeds, without communication")
    uneven = f"{seeds} seed{'s' if seeds > 1 else ''} cannot be spread evenly over {used} devices"
    obstacle = _batch_obstacle(config, used)
    if wants_batch(config) and obstacle is None:
        return Split("batch", used, uneven)
    nearest = [n for n in (seeds // used * used, -(-seeds // used) * used) if n]
    raise SettingError(
        f"{uneven}; "
        + " or ".join(f"--seeds {n}" for n in nearest)
        + " would do, or --devices 1"
        + (" or --shard batch" if obstacle is None else "")
    )


def wants_batch(config: Config) -> bool:
    """Whether devices share batches rather than seeds, if they can."""
    uneven = config.devices is not None and config.seeds % config.devices != 0
    return config.shard == "batch" or (
        config.shard == "auto" and uneven and config.seeds_mode in ("auto", "vmap") and jax.process_count() == 1
    )


def _batch_obstacle(config: Config, used: int) -> str | None:
    """Why the batches of a run cannot be shared by so many devices, for people; None if they can."""
    batch, capacity, worlds = config.learner.batch_episodes, config.replay.capacity, config.rollout.worlds
    if jax.process_count() > 1:
        return "the processes of --hosts share seeds alone"
    for name, value in (("learner.batch_episodes", batch), ("replay.capacity", capacity)):
        if value % used:
            nearest = " or ".join(str(n) for n in (value // used * used, -(-value // used) * used) if n)
            return f"{name} must be a multiple of {used}, such as {nearest} (got {value})"
    if capacity // used < worlds:
        return f"replay.capacity must be at least {worlds * used}, rollout.worlds on each device (got {capacity})"
    return None


def count(config: Config) -> int:
    """How many devices the seeds of one program are spread over. Raises SettingError as `split`."""
    found = split(config)
    return found.count if found.by == "seeds" else 1


def fewer(config: Config) -> Config:
    """A configuration that leaves the number to the machine, with one that its seeds can be spread evenly over."""
    there = min(jax.device_count(), config.seeds)
    chosen = config.devices is not None or config.shard == "batch"
    if chosen or jax.process_count() > 1 or config.seeds % there == 0:
        return config
    return dataclasses.replace(config, devices=max(n for n in range(1, there) if config.seeds % n == 0))


def mesh(n_devices: int, axis: str = AXIS) -> Mesh:
    """The first devices of all processes, in a row."""
    return Mesh(np.asarray(jax.devices()[:n_devices]), (axis,))


def spread(
    function: Callable, n_devices: int, seeded: tuple[bool, ...], seeded_out: tuple[bool, ...] | bool
) -> Callable:
    """The function with its seeded arguments and results, whose leaves start with the seed axis, split over devices.

    What is not seeded is the same everywhere. On one device this is the function itself.
    """
    if n_devices == 1:
        return function

    def spec(split: bool) -> PartitionSpec:
        return PartitionSpec(AXIS) if split else PartitionSpec()

    out = spec(seeded_out) if isinstance(seeded_out, bool) else tuple(map(spec, seeded_out))
    # The clock is the same on all devices by construction, which the check of varying values cannot see.
    return jax.shard_map(
        function, mesh=mesh(n_devices), in_specs=tuple(map(spec, seeded)), out_specs=out, check_vma=False
    )
