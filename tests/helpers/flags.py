"""XLA flags of the tests. XLA aborts the process at the first flag that its version does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

UNKNOWN = "Unknown flag"  # the words that XLA ends with
PARSE = "from jaxlib import xla_client; xla_client.make_cpu_client()"


class FlagError(Exception):
    """XLA cannot start, for a reason other than our flags, or with the caller's own flags."""


def refusal(flags: str) -> str | None:
    """XLA's error for these flags, from a child process; None if it accepts them.

    Raises FlagError if XLA cannot start for another reason.
    """
    where = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "0"}
    child = subprocess.run([sys.executable, "-c", PARSE], env=where, capture_output=True, text=True, check=False)
    said = [line.strip() for line in child.stderr.splitlines() if line.strip()]
    if not child.returncode:
        return None
    unknown = [line[line.index(UNKNOWN) :] for line in said if UNKNOWN in line]
    if not unknown:
        raise FlagError(f"XLA does not start (code {child.returncode}): {said[-1] if said else 'it said nothing'}")
    return unknown[0]


class Memory:
    """Results for one jaxlib, cached in a file; `ask` is called once per string of flags."""

    def __init__(self, file: Path, version: str, ask: Callable[[str], str | None] = refusal) -> None:
        self.file, self.version, self.ask = file, version, ask

    def __call__(self, flags: str) -> str | None:
        known = self._read()
        mine = known.setdefault(self.version, {})
        if flags not in mine:
            mine[flags] = self.ask(flags)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            draft = self.file.with_suffix(f".{os.getpid()}")  # several processes may ask at once
            draft.write_text(json.dumps(known, indent=1))
            draft.replace(self.file)
        return mine[flags]

    def _read(self) -> dict[str, dict[str, str | None]]:
        try:
            return json.loads(self.file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}


def accepted(flags: Sequence[str], refused: Callable[[str], str | None]) -> str:
    """The flags that XLA accepts, joined. Asks once, and once per flag if all together are refused."""
    joined = " ".join(flags)
    if refused(joined):
        return " ".join(flag for flag in flags if not refused(flag))
    return joined


def choose(wanted: Sequence[str], given: str | None, memory: Memory) -> str:
    """XLA_FLAGS of a test session: the caller's, or those of the wanted ones that this jaxlib takes.

    Raises FlagError if the caller's are refused.
    """
    if given is None:
        return accepted(wanted, memory)
    sentence = memory(given)
    if sentence:
        raise FlagError(f"jaxlib {memory.version} refuses XLA_FLAGS='{given}': {sentence}. Leave that flag out.")
    return given


def installed(file: Path) -> Memory:
    """The cache of the installed jaxlib."""
    return Memory(file, metadata.version("jaxlib"))
