"""The settings of a run: their types, the presets, and how both are merged."""

from gpgrad.config.algorithm_names import algorithm, algorithms, label, labelled
from gpgrad.config.files import dump, parse
from gpgrad.config.identities import ASIDE, fingerprint, identity
from gpgrad.config.merge import SELECTIONS, load
from gpgrad.config.overrides import PARTS, flat, override, part_options, text, typed, types

__all__ = [
    "ASIDE",
    "PARTS",
    "SELECTIONS",
    "algorithm",
    "algorithms",
    "dump",
    "fingerprint",
    "flat",
    "identity",
    "label",
    "labelled",
    "load",
    "override",
    "parse",
    "part_options",
    "text",
    "typed",
    "types",
]
