"""What every setting does, in a sentence: from the fields of the schema and the docstrings of makers."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Literal, get_args, get_origin

from gpgrad import config, signatures
from gpgrad.config.schema import Config, Part
from gpgrad.envs import registry as env_registry
from gpgrad.methods import registry


def sentences(settings: Config) -> dict[str, str]:
    """A sentence for each setting of a configuration, by its dotted name; empty where a plugin says nothing."""
    found: dict[str, str] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Part):
            found |= {f"{field.name}.{name}": text for name, text in of_part(field.name, value.name).items()}
        elif dataclasses.is_dataclass(value):
            found |= {f"{field.name}.{f.name}": f.metadata.get("help", "") for f in dataclasses.fields(value)}
        else:
            found[field.name] = field.metadata.get("help", "")
    return {**found, **SELECTIONS}


SELECTIONS = {
    "env": "the environment, see gpgrad list",
    "algo": "a decomposition, a sharing scheme, DECOMPOSITION_SHARING or a named combination, see gpgrad list",
    "preset": "training settings of a published code base, see gpgrad list presets",
    "decomposition": "how the team's value is made of the agents' values",
    "sharing": "which agents share which parameters",
    "weighting": "how transitions of a batch are weighted in the loss",
}


def of_part(kind: str, name: str) -> dict[str, str]:
    """What each setting of an environment, decomposition, sharing scheme or weighting does.

    A setting that its maker does not describe is described by the first part of the kind that does.
    """
    options = config.part_options(kind, name)
    others = [name, *registry.names(kind)] if kind in registry.KINDS else [name]  # type: ignore[arg-type]
    found: dict[str, str] = {}
    for other in others:
        for doc in _docs(kind, other):
            if len(found) < len(options):
                found = signatures.sentences(doc, options) | found
    return {option: found.get(option, "") for option in options}


def _docs(kind: str, name: str) -> list[str]:
    entry = env_registry.factory(name) if kind == "env" else registry.entry(kind, name)  # type: ignore[arg-type]
    if isinstance(entry, str):
        return signatures.docs(entry, siblings=kind != "env")
    classes = inspect.getmro(entry) if inspect.isclass(entry) else (entry,)
    return [inspect.cleandoc(each.__doc__ or "") for each in classes]


def choices(kind: Any) -> str:
    """The values that a setting takes, where they can be listed: `a | b`; empty otherwise."""
    if get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is Literal:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    return "true | false" if kind is bool else ""
