"""A run's settings put together: presets in YAML, one strict way to change anything.

Defaults, then `configs/base.yaml`, then the training preset, the world (its family's file, then its own), the
algorithm, and last the command line or the caller. A file holds only what differs; which file may set what is in
`configs/README.md` and checked by `precedence`. Every change goes through `override`, which knows each setting's type
and answers mistakes with one sentence.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import yaml

from gpgrad import envs
from gpgrad.config import numerics, plugins, precedence, seal, validate
from gpgrad.config.precedence import Level
from gpgrad.config.presets import available, exists, mapping, read, read_yaml
from gpgrad.config.schema import Config, Part
from gpgrad.errors import SettingError, suggest
from gpgrad.methods import registry

PARTS = ("env", *registry.KINDS)
SELECTIONS = ("preset", *registry.KINDS)  # keys that choose rather than set
PATHS = ("log.dir", "init_from")  # settings in which ~ is the home folder
# Beginnings of settings that say nothing about what one seed does.
ASIDE = ("seed", "devices", "plugin", "log.", "checkpoint.", "learner.stop_on_nan")


def part_options(kind: str, name: str) -> dict[str, registry.Option]:
    """The settings of a part, typed, with defaults."""
    if kind == "env":
        return {key: registry.Option(*option) for key, option in envs.options(name).items()}
    return registry.options(kind, name)  # type: ignore[arg-type]


def flat(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name, in order."""
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if isinstance(value, Part):
            result[item.name] = value.name
            result |= {f"{item.name}.{key}": option for key, option in value.options.items()}
        elif dataclasses.is_dataclass(value):
            result |= {f"{item.name}.{f.name}": getattr(value, f.name) for f in dataclasses.fields(value)}
        else:
            result[item.name] = value
    return result


_hints = functools.cache(get_type_hints)


def types(config: Config) -> dict[str, Any]:
    """The type of every setting that `override` may change, by its dotted name."""
    result: dict[str, Any] = {}
    for name, hint in _hints(Config).items():
        value = getattr(config, name)
        if isinstance(value, Part):
            result |= {f"{name}.{key}": option.type for key, option in part_options(name, value.name).items()}
        elif dataclasses.is_dataclass(hint):
            result |= {f"{name}.{key}": kind for key, kind in _hints(hint).items()}
        elif name not in ("algo", "preset"):
            result[name] = hint
    return result


def override(config: Config, changes: Mapping[str, Any], source: str = "") -> Config:
    """The configuration with settings changed by dotted names. Raises SettingError for a bad name or type."""
    known = types(config)
    origin = f" in {source}" if source else ""
    for name, value in changes.items():
        if name not in known:
            raise SettingError(f"unknown setting {name!r}{origin}{suggest(name, known)}")
        value = validate.coerce(value, known[name], name + origin)
        if name in PATHS and value is not None:
            value = os.path.expanduser(value)
        head, _, tail = name.partition(".")
        if not tail:
            config = dataclasses.replace(config, **{head: value})
            continue
        group = getattr(config, head)
        if isinstance(group, Part):
            group = Part(group.name, {**group.options, tail: value})
        else:
            group = dataclasses.replace(group, **{tail: value})
        config = dataclasses.replace(config, **{head: group})
    return config


def typed(config: Config) -> Config:
    """The configuration with numbers of NumPy as Python's, which files hold. Raises SettingError for a wrong type."""
    known = types(config)
    numbers: dict[str, Any] = {}
    for name, value in flat(config).items():
        if name in known:
            validate.coerce(value, known[name], name)
        if isinstance(value, np.generic):
            numbers[name] = value.item()
    return override(config, numbers)


def load(
    env: str = "pp_small",
    algo: str = "qmix",
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of a run: presets merged, overrides last, everything checked.

    overrides: dotted setting names to values; `preset`, `decomposition`, `sharing` and `weighting` choose.
    Raises SettingError, one sentence, for unknown names, wrong types and impossible values.
    """
    changes = dict(overrides or {})
    named = validate.coerce(changes.pop("plugin", ()), tuple[str, ...], "plugin")
    plugins.load(named)
    for name in (env, algo, *changes):
        if not isinstance(name, str):
            raise SettingError(f"a name must be text (got {name!r})")
    chosen = {key: str(changes.pop(key)) for key in SELECTIONS if key in changes}
    if "evaluation.every_steps" in changes:  # what a world's file has in its place would win
        changes = {"evaluation.every_episodes": None, **changes}
    if not envs.known(env):
        raise SettingError(f"unknown environment {env!r}{envs.missing(env)}")
    worlds = [(name, read("env", name)) for name in (envs.family(env), env) if exists("env", name)]
    for name, content in worlds:
        precedence.check_world(name, content)
    method = algorithm(algo)
    precedence.check_algorithm(algo, method)
    preset = chosen.get("preset", _last("preset", [("base", read("", "base")), *worlds]))
    trained: list[Level] = [(f"preset/{preset}", read("preset", preset))]
    levels: list[Level] = [("base", read("", "base")), *trained]
    for name, content in worlds:
        exceptions = (f"env/{name}", _by_preset(name, content).get(preset, {}))
        levels += [(f"env/{name}", content), exceptions]
        trained.append(exceptions)
    levels.append((f"algo/{algo}", method))

    named_parts = {**method["parts"], "sharing": precedence.scheme(method, trained)}
    names: dict[str, str] = {kind: chosen[kind] if kind in chosen else named_parts[kind] for kind in registry.KINDS}
    parts: dict[str, Any] = {kind: _defaults(kind, name) for kind, name in names.items()}
    config = Config(
        env=_defaults("env", env),
        algo=algo,
        preset=preset,
        **parts,
    )
    for source, content in levels:
        place = f"configs/{source}.yaml"
        config = override(config, _settings(content, config, place), place)
    config = precedence.settle(override(config, {**changes, "plugin": _with_owners(named, config)}))
    validate.check(config)
    validate.check_name(config.log.name)
    return config


def _with_owners(named: tuple[str, ...], config: Config) -> tuple[str, ...]:
    """The plugins that were named, and those of installed packages that the run takes something from."""
    parts = {kind: getattr(config, kind).name for kind in PARTS}
    return tuple(dict.fromkeys([*named, *plugins.owners(parts)]))


def algorithm(name: str) -> dict[str, Any]:
    """What an algorithm's name stands for: its file, or a decomposition or sharing scheme of that name.

    A sharing scheme alone is on QMIX; `<decomposition>_<scheme>` is both. `parts` has no `sharing` where the name says
    nothing of it: the training preset then decides.
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
    """The name of what runs, see `labelled`."""
    return labelled(config.algo, {kind: getattr(config, kind).name for kind in registry.KINDS})


def labelled(algo: str, parts: Mapping[str, str]) -> str:
    """The algorithm's name, with the sharing scheme where it names none; or its parts' names, where they are others."""
    named = algorithm(algo)["parts"]
    if any(parts[kind] != name for kind, name in named.items()):
        return "-".join(parts[kind] for kind in registry.KINDS)
    return algo if "sharing" in named else f"{algo}_{parts['sharing']}"


def _defaults(kind: str, name: str) -> Part:
    return Part(name, {key: option.default for key, option in part_options(kind, name).items()})


def _settings(content: Mapping[str, Any], config: Config, source: str) -> dict[str, Any]:
    """A file's nested settings as dotted names; settings of parts that were not chosen are left out."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if key in ("preset", "presets", "parts"):
            continue
        if key in registry.KINDS:
            for name, settings in mapping(value, f"{key} in {source}").items():
                if name not in registry.names(key):
                    raise SettingError(f"unknown {key} {name!r} in {source}{suggest(name, registry.names(key))}")
                if name == getattr(config, key).name:
                    result |= {f"{key}.{option}": v for option, v in mapping(settings, f"{key} in {source}").items()}
        elif isinstance(value, Mapping):
            result |= {f"{key}.{name}": v for name, v in value.items()}
        else:
            result[key] = value
    return result


def _by_preset(name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A world's settings under each preset."""
    result = mapping(content.get("presets", {}), f"presets in configs/env/{name}.yaml")
    for preset in result:
        if not exists("preset", preset):
            raise SettingError(
                f"unknown preset {preset!r} in configs/env/{name}.yaml{suggest(preset, available('preset'))}"
            )
    return result


def _last(key: str, levels: list[Level]) -> str:
    return [content[key] for _, content in levels if key in content][-1]


def fingerprint(config: Config) -> str:
    """Eight hex digits that name all settings except where results go, what is kept and how seeds are laid out."""
    aside = ("log.", "checkpoint.", "seeds_mode", "devices", "plugin", "learner.stop_on_nan")
    content = {key: value for key, value in _chosen(config).items() if not key.startswith(aside)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def identity(config: Config, versions: Mapping[str, int] | None = None, source: str | None = None) -> str:
    """Sixteen hex digits that name what the numbers of one seed depend on.

    All settings except which seeds are trained together and how, where results go and what is kept, and the names of
    algorithm and preset, which stand for settings; and the numerics versions of the run's parts. versions: by default
    today's. source: the content of the teams that `init_from` names, by default read from there; its path does not
    matter. Raises SettingError where it cannot be read.
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
    """All settings; a start from nothing, which was once the only one, is not worth a word."""
    return {key: value for key, value in flat(config).items() if key != "init_from" or value is not None}


def _as_float(value: Any) -> Any:
    """A number as float: an int default of a float setting is the same setting."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def dump(config: Config) -> str:
    """The resolved settings as YAML, a line each."""
    return yaml.safe_dump(flat(config), sort_keys=False)


def parse(path: Path) -> Config:
    """The configuration that a file made by `dump` holds. Raises SettingError for any other file.

    A setting younger than the file has the default of its dataclass or part, as it was before there was a choice; what
    presets say today is not asked. Names that have changed are brought up to date, see `precedence.upgrade`.
    """
    if not path.is_file():
        raise SettingError(f"{path} has no resolved settings; it must be config.yaml in the folder of a run")
    try:
        content = precedence.upgrade(mapping(read_yaml(path, "the settings in"), str(path)))
        names = {key: content.pop(key) for key in ("algo", "preset", *PARTS)}
        plugins.load(validate.coerce(content.get("plugin", ()), tuple[str, ...], f"plugin in {path}"))
    except KeyError as error:
        raise SettingError(f"{path} has no resolved settings: {error} is missing") from None
    for name in names.values():
        if not isinstance(name, str):
            raise SettingError(f"a name in {path} must be text (got {name!r})")
    algorithm(names["algo"])
    parts: dict[str, Any] = {kind: _defaults(kind, names[kind]) for kind in PARTS}
    config = override(Config(algo=names["algo"], preset=names["preset"], **parts), content, str(path))
    config = precedence.settle(config)
    validate.check(config)
    return config
