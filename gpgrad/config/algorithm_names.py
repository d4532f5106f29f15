"""Names of algorithms: a file of `configs/algo`, a decomposition, a sharing scheme, or two of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpgrad.config.presets import available, exists, read
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError, suggest
from gpgrad.methods import registry


def algorithm(name: str) -> dict[str, Any]:
    """The settings of an algorithm: the content of its file, or the parts that its name stands for.

    A sharing scheme alone uses QMIX; `<decomposition>_<scheme>` names both. If the name has no sharing scheme, neither
    does `parts`, and the training preset decides. Raises SettingError for an unknown name.
    """
    parts = {"decomposition": "qmix", "weighting": "none"}
    if exists("algo", name):
        content = read("algo", name)
        return {**content, "parts": parts | content.get("parts", {})}
    if name in algorithms():
        pieces = _split(name)
        return {"parts": parts | pieces}
    raise SettingError(f"unknown algorithm {name!r}{suggest(name, algorithms())}")


def algorithms() -> list[str]:
    """All algorithm names."""
    decompositions, schemes = registry.names("decomposition"), registry.names("sharing")
    both = [f"{d}_{s}" for d in decompositions for s in schemes]
    return [*decompositions, *schemes, *both, *(n for n in available("algo") if n not in decompositions)]


def _split(name: str) -> dict[str, str]:
    if name in registry.names("decomposition"):
        return {"decomposition": name}
    if name in registry.names("sharing"):
        return {"sharing": name}
    pairs = ((d, s) for d in registry.names("decomposition") for s in registry.names("sharing"))
    decomposition, sharing = next(pair for pair in pairs if name == "_".join(pair))
    return {"decomposition": decomposition, "sharing": sharing}


def label(config: Config) -> str:
    """The name of the algorithm with its sharing scheme, see `labelled`."""
    return labelled(config.algo, {kind: getattr(config, kind).name for kind in registry.KINDS})


def labelled(algo: str, parts: Mapping[str, str]) -> str:
    """The algorithm's name, with the sharing scheme if it names none; the names of all parts if they differ from it."""
    named = algorithm(algo)["parts"]
    if any(parts[kind] != name for kind, name in named.items()):
        return "-".join(parts[kind] for kind in registry.KINDS)
    return algo if "sharing" in named else f"{algo}_{parts['sharing']}"
