"""Memory that arrays can still have: the devices', the machine's, or what its scheduler or container allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import jax
import psutil

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_bytes() -> int:
    """Free memory where arrays live: the devices' own count where they keep one, else this computer's."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("bytes_limit" in each for each in stats):
        return sum(each["bytes_limit"] - each.get("bytes_in_use", 0) for each in stats)
    return min([psutil.virtual_memory().available, *allowances()])


def allowances(groups: Path = GROUPS, own: Path = OWN) -> Iterator[int]:
    """Bytes left under each limit of Linux control groups, as containers and Slurm set them.

    Version 2 has one tree of groups, version 1 one for memory. A limit holds for all groups below it. Files that only
    fill the cache (`inactive_file`) make room when it is needed. Without control groups there are none.
    """
    for group in _groups(groups, own):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, taken = _number(group / limit), _number(group / used)
            if most is not None and taken is not None:
                yield max(0, most - taken + _cached(group / "memory.stat"))


def _groups(groups: Path, own: Path) -> Iterator[Path]:
    """The groups of this process, with those above them. In a container a path may be of the world outside."""
    if not own.is_file():
        return
    for line in own.read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            place = PurePosixPath(path.lstrip("/"))
            for part in (place, *place.parents) if place.parts else (place,):
                yield groups / kinds / part


def _number(file: Path) -> int | None:
    """A limit or a count; None for "max", and where the file is missing or not ours to read."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cached(file: Path) -> int:
    try:
        counts = dict(line.split(maxsplit=1) for line in file.read_text().splitlines())
    except OSError:
        return 0
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
