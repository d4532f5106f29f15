"""A hash of a trained team's files, independent of their folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gpgrad.errors import SettingError


def team_content(folder: Path) -> str:
    """Sixteen hex digits of the files in a finished run's `team`. Raises SettingError if there are none."""
    files = sorted(path for path in (folder / "team").rglob("*") if path.is_file())
    if not files:
        raise SettingError(f"{folder} has no trained team; init_from must be the folder of a finished run")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
