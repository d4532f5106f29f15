"""A whole team in one file, NAME.npz: its arrays, its settings and its card.

Such a file is enough to act, draw and test in JAX, without the folder of the run (`gpgrad.load_team`, `gpgrad render`,
`gpgrad eval`). It has no mixer where agents act without one, so that no training can go on from it. `export` writes
another kind of file, networks per agent for NumPy.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.learning import multiprocess, program
from gpgrad.methods.decomposition import base
from gpgrad.policies import bundled
from gpgrad.policies.trained import TrainedTeam
from gpgrad.types import PyTree

UNUSED = ("params.decomposition",)  # a mixer, which nobody acts with where utilities are the network's outputs


def write(team: TrainedTeam, path: Path) -> dict[str, np.ndarray]:
    """Write a team to FILE.npz; returns its arrays by their names in the tree. Raises SettingError for no .npz."""
    if path.suffix != ".npz":
        raise SettingError(f"--out must be a file that ends with .npz (got {str(path)!r})")
    skipped = UNUSED if team.parts.decomposition.utilities is base.plain_utilities else ()
    arrays = {
        name: np.asarray(_plain(leaf)) for name, leaf in _named(team.actor).items() if not name.startswith(skipped)
    }
    log = dataclasses.replace(team.config.log, dir="runs", name=None)  # no paths of this machine
    settings = dataclasses.replace(team.config, log=log, init_from=None)
    notes = {"kind": bundled.KIND, "version": bundled.VERSION, "card": dict(team.card), "steps": team.steps}
    notes["settings"] = config.dump(settings)
    np.savez_compressed(path, notes=np.array(json.dumps(notes)), **arrays)  # type: ignore[arg-type]
    return arrays


def read(path: Path) -> TrainedTeam:
    """The team in a file. Raises SettingError for other files, and for arrays that are not those of the settings."""
    arrays, notes = bundled.content(path)
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "config.yaml"
        settings.write_text(notes["settings"])
        chosen = config.parse(settings)
    built = program.make_program(chosen)
    seeds = jax.ShapeDtypeStruct((1,), jnp.int32)
    template = jax.eval_shape(lambda s: program.actors(built.init(s)), seeds)
    leaves = []
    for name, leaf in _named(template).items():
        like = jax.eval_shape(_plain, leaf)
        found, shape = arrays.get(name), like.shape[1:]
        if found is None and name.startswith(UNUSED) and built.parts.decomposition.utilities is base.plain_utilities:
            found = np.zeros(shape, like.dtype)
        if found is None or (found.shape, found.dtype) != (shape, like.dtype):
            have = "not there" if found is None else f"{found.dtype} {list(found.shape)}"
            raise SettingError(f"the team in {path} is damaged: {name} is {have}, must be {like.dtype} {list(shape)}")
        leaves.append(jax.random.wrap_key_data(jnp.asarray(found)) if multiprocess.is_key(leaf) else jnp.asarray(found))
    actor = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return TrainedTeam(chosen.seed, chosen, built.parts, actor, notes["steps"], notes["card"])


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if multiprocess.is_key(leaf) else leaf


def _named(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their paths, in the order of the tree."""
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in jax.tree.leaves_with_path(tree)}
