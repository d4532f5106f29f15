"""Runs and trained teams on disk, with orbax.

A checkpoint is written to a draft folder, sealed with the checksums of its files, and renamed last. Reading takes the
newest checkpoint whose files match its seal, so that a killed process, a truncated file or a full disk costs at most
the work since that checkpoint. Only arrays are read: loading a checkpoint runs no code from it.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gpgrad.errors import SettingError
from gpgrad.learning import multiprocess
from gpgrad.learning.program import Actor, Program, actors
from gpgrad.types import Clock, PyTree, SeedState

FOLDER, ARRAYS, NOTES, SEAL = "checkpoints", "arrays", "notes.json", "seal.json"
_PIECE = 2**22  # bytes read at once
# Arrays that older checkpoints do not have; zeros are what they would have held.
YOUNGER = ("states.divergence.streak", "states.divergence.env_steps", "states.stats.nonfinite_updates")


class Position(NamedTuple):
    """The state of a run between two chunks: everything that is needed to continue it.

    kept: the teams of finished seeds; the entries of other seeds have no meaning. finished: bool [S]. tests: int32 [],
    the number of tests done.
    """

    clock: Clock
    states: SeedState
    kept: Actor
    finished: jax.Array | np.ndarray
    tests: jax.Array | np.ndarray


def save_team(folder: Path, team: Actor, name: str = "team") -> None:
    """Write the teams of all seeds; teams that a killed run left are overwritten. name: of their folder in the run's.

    Raises OSError if they cannot be written; checkpoints are not touched.
    """
    team = multiprocess.fetch(team)
    if not multiprocess.first():
        return
    place, draft = folder / name, folder / f"{name}.draft"
    try:
        _remove_drafts(folder, name)
        _write_arrays(draft, team)
        shutil.rmtree(place, ignore_errors=True)
        draft.replace(place)
    except Exception as error:  # orbax has errors of its own for a full disk
        _remove_drafts(folder, name)
        raise OSError(f"the team could not be written to {place}: {' '.join(str(error).split())}") from error


def _remove_drafts(folder: Path, name: str) -> None:
    """Of teams; orbax puts words of its own behind the name while it writes."""
    for left in folder.glob(f"{name}.draft*"):
        shutil.rmtree(left, ignore_errors=True)


def load_team(folder: Path, program: Program, n_seeds: int, name: str = "team") -> Actor:
    """Read the teams that `save_team` wrote, for a program made from the same settings."""
    seeds = jax.ShapeDtypeStruct((n_seeds,), jnp.int32)
    return _read(folder / name, jax.eval_shape(lambda s: actors(program.init(s)), seeds))


def load_team_like(folder: Path, team: Actor, name: str) -> Actor:
    """Read the teams that `save_team` wrote, of the shapes of another team. Raises ValueError for other shapes."""
    return _read(folder / name, jax.eval_shape(lambda t: t, team))


def save(folder: Path, position: Position, notes: dict[str, Any], keep: int) -> None:
    """Write a checkpoint and remove all but the newest `keep`. Raises OSError if it cannot be written."""
    position = multiprocess.fetch(position)
    if not multiprocess.first():
        return
    root = folder / FOLDER
    name = f"{int(position.clock.iterations):010d}-{int(position.tests):06d}"
    place, draft = root / name, root / f"{name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _write_arrays(draft / ARRAYS, position)
        (draft / NOTES).write_text(json.dumps(notes))
        (draft / SEAL).write_text(json.dumps(_checksums(draft)))
        _sync(draft)
        shutil.rmtree(place, ignore_errors=True)
        draft.replace(place)
    except Exception as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise OSError(f"no checkpoint could be written to {root}: {error}") from error
    later = [other for other in found(folder) if other.name > name]  # broken, since the run went on from before
    older = [other for other in found(folder) if other.name < name]
    for old in (*later, *older[keep - 1 :], *root.glob("*.draft")):
        shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path, template: Position, say: Callable[[str], None]) -> tuple[Position, dict[str, Any]] | None:
    """The newest intact checkpoint with its notes, None if there is none. `say` names each damaged one passed over.

    With several processes, process 0 reads and the others receive its arrays, without notes. Raises SettingError if all
    are damaged, OSError if one cannot be read now, ValueError if its arrays do not match the template.
    """
    if not multiprocess.several():
        return _newest(folder, template, say)
    read = _newest(folder, template, say) if multiprocess.first() else None
    position = multiprocess.broadcast(read and read[0], template, jax.device_count())
    return None if position is None else (position, read[1] if read else {})


def _newest(folder: Path, template: Position, say: Callable[[str], None]) -> tuple[Position, dict[str, Any]] | None:
    places = found(folder)
    for place in places:
        if is_whole(place):
            return read(place, template), json.loads((place / NOTES).read_text())
        say(f"passing over {place}: its files do not match their checksums")
    if places:
        root = folder / FOLDER
        raise SettingError(f"no checkpoint in {root} is intact; remove that folder to train the run from the start")
    return None


def read(place: Path, template: Position) -> Position:
    """One of `found`, which must be whole."""
    return _read(place / ARRAYS, template)


def found(folder: Path) -> list[Path]:
    """Checkpoints in a run's folder, newest first, whole or not."""
    root = folder / FOLDER
    return sorted((p for p in root.glob("*") if p.suffix != ".draft"), reverse=True) if root.is_dir() else []


def is_whole(place: Path) -> bool:
    """Whether the files are those that were sealed. Raises OSError where they cannot be read now."""
    try:
        return json.loads((place / SEAL).read_text()) == _checksums(place)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _checksums(folder: Path) -> dict[str, int]:
    """CRC-32 of every file but the seal, by its path in the folder."""
    return {
        str(path.relative_to(folder)): _checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL
    }


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            value = zlib.crc32(piece, value)
    return value


def _sync(folder: Path) -> None:
    """Have the operating system write the files before they get their final name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _write_arrays(place: Path, tree: PyTree) -> None:
    """Write NumPy arrays, as `multiprocess.fetch` returns them."""
    with _checkpointer() as checkpointer:
        checkpointer.save(place.resolve(), _as_dict(tree))


def _checkpointer() -> ocp.StandardCheckpointer:
    """A checkpointer that waits for no other process, since process 0 reads and writes alone."""
    if not multiprocess.several():
        return ocp.StandardCheckpointer()
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _read(place: Path, template: PyTree) -> PyTree:
    """Arrays of the template's structure, shapes and dtypes. Raises ValueError for others."""

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        data = jax.eval_shape(jax.random.key_data, leaf) if multiprocess.is_key(leaf) else leaf
        return jax.ShapeDtypeStruct(data.shape, data.dtype)

    def revive(leaf: jax.Array, like: Any) -> jax.Array:
        return jax.random.wrap_key_data(leaf) if multiprocess.is_key(like) else leaf

    wanted = _as_dict(jax.tree.map(shape, template))
    with _checkpointer() as checkpointer:
        have = checkpointer.metadata(place.resolve()).item_metadata.tree
        absent = {name: wanted.pop(name) for name in YOUNGER if name in wanted and name not in have}
        _compare(have, wanted)
        stored = checkpointer.restore(place.resolve(), wanted)
    stored |= {name: jnp.zeros(like.shape, like.dtype) for name, like in absent.items()}
    leaves = [stored[name] for name in _names(template)]
    return jax.tree.map(revive, jax.tree.unflatten(jax.tree.structure(template), leaves), template)


def _compare(have: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError for the first array that is not stored as it is wanted, which orbax would cast or cut."""
    kind = lambda leaf: None if leaf is None else f"{leaf.dtype} {list(leaf.shape)}"  # noqa: E731
    for name in (*wanted, *have):
        one, other = kind(have.get(name)), kind(wanted.get(name))
        if one != other:
            raise ValueError(f"{name} must be {other or 'absent'} (got {one or 'none'})")


def _names(tree: PyTree) -> list[str]:
    """Each leaf's path, so that files do not depend on Python's classes."""
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]


def _as_dict(tree: PyTree) -> dict[str, Any]:
    return dict(zip(_names(tree), jax.tree.leaves(tree), strict=True))
