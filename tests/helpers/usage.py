"""Costs of a test session: compiled programs kept by a process, memory, processor time."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys

import psutil

ROOM = 800.0  # MB; one module's programs add up to about as much again


def memory() -> float:
    """Resident memory of the process, MB."""
    return psutil.Process().memory_info().rss / 2**20


def drop_programs() -> None:
    """Drop compiled programs and release their memory.

    JAX keeps every program that it ever compiled, 10 to 30 MB for an update. glibc keeps what they free in pieces too
    small to be unmapped, until it is asked to trim.
    """
    if jax := sys.modules.get("jax"):
        jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def spent() -> dict[str, float]:
    """Processor seconds of this process and of its ended children; its largest memory, MB."""
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    seconds = sum(each.ru_utime + each.ru_stime for each in (mine, children))
    return {"seconds": seconds, "largest": mine.ru_maxrss / unit}


def line(costs: list[dict[str, float]]) -> str:
    """The line of the summary about all test processes."""
    seconds, largest = sum(cost["seconds"] for cost in costs), max(cost["largest"] for cost in costs)
    return f"{seconds / 60:.1f} minutes of processor time; the largest test process had {largest / 1000:.1f} GB"
