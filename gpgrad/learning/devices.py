"""Seeds are spread over devices: each device runs the same program on its share, without communication."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

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


def count(config: Config) -> int:
    """How many devices the seeds of one program use. Raises SettingError where they cannot be shared out evenly."""
    there = jax.device_count()
    if config.devices is not None and config.devices > there:
        raise SettingError(f"devices must be at most {there}, the number that this machine has (got {config.devices})")
    used = config.devices or (there if jax.process_count() > 1 else min(there, config.seeds))
    if config.seeds % used:
        nearest = [n for n in (config.seeds // used * used, -(-config.seeds // used) * used) if n]
        raise SettingError(
            f"{config.seeds} seeds cannot be spread evenly over {used} devices; "
            + " or ".join(f"--seeds {n}" for n in nearest)
            + " would do, or --devices 1"
        )
    return used


def fewer(config: Config) -> Config:
    """A configuration that leaves the number to the machine, with one that its seeds can be spread evenly over."""
    there = min(jax.device_count(), config.seeds)
    if config.devices is not None or jax.process_count() > 1 or config.seeds % there == 0:
        return config
    return dataclasses.replace(config, devices=max(n for n in range(1, there) if config.seeds % n == 0))


def mesh(n_devices: int) -> Mesh:
    """The first devices of all processes, in a row."""
    return Mesh(np.asarray(jax.devices()[:n_devices]), (AXIS,))


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
