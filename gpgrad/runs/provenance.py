"""Where a run's numbers come from: versions, code, command and settings, in its manifest.json.

The manifest is written when the run's folder is made, and these entries never change; each process that continues the
run adds an entry to `continued`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gpgrad
from gpgrad.config import fingerprint, flat, identity, numerics, precedence
from gpgrad.config.numerics import Versions
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.runs.logs import MANIFEST, read_manifest

PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint", "wandb", "jaxmarl")
# Settings that a user may edit in the config.yaml of an interrupted run: they change no number.
FREE = ("log.", "checkpoint.", "seeds_mode", "devices", "shard", "learner.stop_on_nan")
# Entries that differ between any two runs.
PRIVATE = ("id", "fingerprint", "identity", "settings", "command", "continued", "earlier", "source")
_SECONDS = 10.0

Manifest = dict[str, Any]


def begin(config: Config, source: Mapping[str, str] | None = None, earlier: Manifest | None = None) -> Manifest:
    """The manifest of a new run, without what only jax knows.

    source: of a run that starts from trained teams, their run's `folder` and the `content` of the teams. earlier: the
    manifest of the run that this one extends.
    """
    return {
        "id": secrets.token_hex(6),
        "fingerprint": fingerprint(config),
        **session(),
        "numerics": numerics.versions(config),
        "settings": flat(config),
        **({"source": dict(source)} if source else {}),
        **({"earlier": [*earlier.get("earlier", []), _without_history(earlier)]} if earlier else {}),
    }


def session() -> Manifest:
    """What one process runs on: versions, code, command."""
    commit, modified = code()
    return {
        "gpgrad": gpgrad.__version__,
        "commit": commit,
        "modified": modified,
        "command": command(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in PACKAGES},
    }


def command(argv: list[str]) -> str:
    """The command line of this process, as one would type it."""
    module = Path(argv[0]).parent.name if Path(argv[0]).name == "__main__.py" else Path(argv[0]).name
    return shlex.join([module, *argv[1:]])


def version(package: str) -> str | None:
    """A package's version, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def code() -> tuple[str | None, bool | None]:
    """The git commit of this package and whether its tree was changed since; None outside a checkout of it."""
    place = Path(gpgrad.__file__)

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words], cwd=place.parent, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", place.name) is None:  # the repository around it is somebody else's
        return None, None
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if changed is None else bool(changed)


def write(folder: Path, manifest: Manifest) -> None:
    """Write a run's manifest: whole, or not at all after a kill."""
    draft = folder / f"{MANIFEST}.draft"
    draft.write_text(json.dumps(manifest, indent=2))
    draft.replace(folder / MANIFEST)


def go_on(folder: Path, more: Manifest) -> None:
    """Add an entry for this process, with `more` in it, to the manifest of a run that it goes on with."""
    manifest = read_manifest(folder)
    write(folder, {**manifest, "continued": [*manifest.get("continued", []), session() | more]})


def versions_of(manifest: Manifest, names: Mapping[str, str]) -> dict[str, int]:
    """The numerics versions that a run was trained with; the first ones where it kept none.

    names: of its parts, as `numerics.modules` takes them.
    """
    return precedence.upgrade_parts(manifest.get("numerics") or numerics.first(names), names["sharing"])


def identity_of(manifest: Manifest, config: Config, versions: Versions) -> str:
    """`config.identity` of a run that exists, with the teams it began from: they may have changed or gone since.

    For runs that kept no name of their teams' content, the teams' path is used.
    """
    content = manifest.get("source", {}).get("content") or os.path.normpath(config.init_from or "")
    return identity(config, versions, content)


def check(folder: Path, config: Config) -> None:
    """Raise SettingError unless a run can go on: its settings are those it began with, its parts those of today."""
    manifest = read_manifest(folder)
    begun = manifest.get("settings")
    if begun is not None:
        begun = precedence.upgrade(begun)
        now = json.loads(json.dumps(flat(config)))
        names = [name for name in dict.fromkeys([*begun, *now]) if not name.startswith(FREE)]
        changed = [
            f"{name} is {now.get(name)!r} and was {begun.get(name)!r}"
            for name in names
            # A setting that is younger than the run has its default now.
            if name in begun and now.get(name) != begun[name]
        ]
        if changed:
            raise SettingError(
                f"{folder / 'config.yaml'} was changed since the run began: {'; '.join(changed)}. "
                f"Restore it, or train a new run with the new settings"
            )
    outdated = numerics.changes(versions_of(manifest, numerics.names_of(config)), numerics.versions(config))
    if outdated:
        raise SettingError(
            f"the run in {folder} was trained with other numerics versions ({outdated}; see NUMERICS.md) and cannot go "
            f"on with these: train a new run, or use the gpgrad that it began with"
        )


def compared(manifest: Manifest) -> dict[str, Any]:
    """The entries by which two runs may be compared, each numerics version under a name of its own."""
    plain = {name: value for name, value in manifest.items() if name not in (*PRIVATE, "numerics")}
    return plain | {f"numerics: {part}": value for part, value in manifest.get("numerics", {}).items()}


def public(manifest: Manifest) -> Manifest:
    """A manifest without folders of the machine that the run was trained on."""

    def clean(entry: Manifest) -> Manifest:
        kept = {name: value for name, value in entry.items() if name != "settings"}
        if "command" in kept:
            kept["command"] = _without_folders(kept["command"])
        if "source" in kept:
            kept["source"] = {"content": kept["source"].get("content")}
        return kept

    result = clean(manifest)
    return result | {
        name: [clean(entry) for entry in manifest[name]] for name in ("continued", "earlier") if name in manifest
    }


def _without_folders(line: str) -> str:
    words, kept = shlex.split(line), []
    for i, word in enumerate(words):
        if word.startswith("--log.dir=") or word == "--log.dir" or (i and words[i - 1] == "--log.dir"):
            continue
        kept.append(Path(word).name if Path(word).is_absolute() else word)
    return shlex.join(kept)


def _without_history(manifest: Manifest) -> Manifest:
    return {name: value for name, value in manifest.items() if name not in ("settings", "earlier")}


def differing(one: Versions, other: Versions) -> list[str]:
    """Parts that two runs have in common in different versions."""
    return [part for part in one if part in other and one[part] != other[part]]
