"""Names of settings: what identifies a run, and the hash in the name of its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpgrad.config import numerics, seal
from gpgrad.config.overrides import flat
from gpgrad.config.schema import Config

# Prefixes of settings that do not change the numbers of a seed.
ASIDE = ("seed", "devices", "shard", "plugin", "log.", "checkpoint.", "learner.stop_on_nan")


def fingerprint(config: Config) -> str:
    """Eight hex digits of all settings except those of logs, checkpoints and the layout of seeds; for folder names."""
    aside = ("log.", "checkpoint.", "seeds_mode", "devices", "shard", "plugin", "learner.stop_on_nan")
    content = {key: value for key, value in _chosen(config).items() if not key.startswith(aside)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def identity(config: Config, versions: Mapping[str, int] | None = None, source: str | None = None) -> str:
    """Sixteen hex digits of everything that the numbers of one seed depend on.

    These are all settings, except those of seeds, logs, checkpoints and devices and the names of algorithm and preset,
    which stand for other settings; and the numerics versions of the run's parts.

    versions: by default the current ones. source: the content of the teams in `init_from`, by default read from there;
    the path itself does not matter. Raises SettingError if the teams cannot be read.
    """
    content = {key: value for key, value in _chosen(config).items() if not key.startswith(ASIDE)}
    del content["algo"], content["preset"]
    if config.init_from is not None:
        content["init_from"] = source or seal.team_content(Path(config.init_from))
    chosen = {key: _as_float(value) for key, value in content.items()}
    used = numerics.versions(config) if versions is None else dict(versions)
    text = json.dumps({**chosen, "numerics": used}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _chosen(config: Config) -> dict[str, Any]:
    """All settings; `init_from` only if it is set, so that identities older than this setting stay valid."""
    return {key: value for key, value in flat(config).items() if key != "init_from" or value is not None}


def _as_float(value: Any) -> Any:
    """Integers as floats, since an int default of a float setting is the same setting."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
