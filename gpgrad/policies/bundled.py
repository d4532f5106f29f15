"""Files of teams and the teams that are part of the package, without importing jax."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad.errors import SettingError, suggest

KIND, VERSION = "gpgrad team", 1
FOLDER = Path(__file__).parent / "teams"
PREFIX = "team:"  # before the name of a bundled team


def names() -> list[str]:
    """Names of the teams that are part of the package."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))


def find(name: str) -> Path:
    """The file of a bundled team. Raises SettingError for an unknown name."""
    if name not in names():
        raise SettingError(f"unknown team {name!r}{suggest(name, names())}")
    return FOLDER / f"{name}.npz"


def read_card(path: Path) -> dict[str, Any]:
    """The card of a team in a file, without making the team. Raises SettingError for other files."""
    return content(path)[1]["card"]


def content(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and notes of a team's file. Raises SettingError for other files."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        notes = json.loads(str(arrays.pop("notes")))
        if notes["kind"] != KIND or notes["version"] > VERSION:
            raise ValueError
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise SettingError(
            f"{path} holds no team of gpgrad; must be a file that gpgrad export RUN --for gpgrad --out FILE.npz wrote"
        ) from None
    return arrays, notes
