"""The settings of a run: defaults, presets and overrides merged.

Later levels override earlier ones: defaults, `configs/base.yaml`, the training preset, the environment (its family's
file, then its own), the algorithm, and last the command line or the caller. A file holds only what differs.
`configs/README.md` lists which file may set what; `precedence` checks it. Every change goes through `override`, which
checks names and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpgrad import envs
from gpgrad.config import plugins, precedence, validate
from gpgrad.config.algorithm_names import algorithm
from gpgrad.config.overrides import PARTS, default_part, override
from gpgrad.config.precedence import Level
from gpgrad.config.presets import available, exists, mapping, read
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError, suggest
from gpgrad.methods import registry

SELECTIONS = ("preset", *registry.KINDS)  # keys that choose a part or preset


def load(
    env: str = "pp_small",
    algo: str = "qmix",
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of a run: presets merged, overrides last, everything checked.

    env, algo: names of the environment and the algorithm. overrides: dotted setting names to values; `preset`,
    `decomposition`, `sharing` and `weighting` choose a preset or part. Raises SettingError for unknown names, wrong
    types and invalid values.
    """
    changes = dict(overrides or {})
    named = validate.coerce(changes.pop("plugin", ()), tuple[str, ...], "plugin")
    plugins.load(named)
    for name in (env, algo, *changes):
        if not isinstance(name, str):
            raise SettingError(f"a name must be text (got {name!r})")
    chosen = {key: str(changes.pop(key)) for key in SELECTIONS if key in changes}
    if "evaluation.every_steps" in changes:  # else every_episodes of an environment's file would win
        changes = {"evaluation.every_episodes": None, **changes}
    if not envs.known(env):
        raise SettingError(f"unknown environment {env!r}{envs.missing(env)}")
    method = algorithm(algo)
    preset, levels, trained = _levels(env, algo, method, chosen.get("preset"))
    named_parts = {**method["parts"], "sharing": precedence.scheme(method, trained)}
    names: dict[str, str] = {kind: chosen[kind] if kind in chosen else named_parts[kind] for kind in registry.KINDS}
    parts: dict[str, Any] = {kind: default_part(kind, name) for kind, name in names.items()}
    config = Config(
        env=default_part("env", env),
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


def _levels(env: str, algo: str, method: Mapping[str, Any], preset: str | None) -> tuple[str, list[Level], list[Level]]:
    """The preset's name, the files' levels from the lowest on, and those levels that the preset brings."""
    worlds = [(name, read("env", name)) for name in (envs.family(env), env) if exists("env", name)]
    for name, content in worlds:
        precedence.check_world(name, content)
    precedence.check_algorithm(algo, method)
    base: Level = ("base", read("", "base"))
    preset = _last("preset", [base, *worlds]) if preset is None else preset
    trained: list[Level] = [(f"preset/{preset}", read("preset", preset))]
    levels: list[Level] = [base, *trained]
    for name, content in worlds:
        exceptions = (f"env/{name}", _by_preset(name, content).get(preset, {}))
        levels += [(f"env/{name}", content), exceptions]
        trained.append(exceptions)
    return preset, [*levels, (f"algo/{algo}", method)], trained


def _with_owners(named: tuple[str, ...], config: Config) -> tuple[str, ...]:
    """The named plugins, and those of installed packages that the run uses parts of."""
    parts = {kind: getattr(config, kind).name for kind in PARTS}
    return tuple(dict.fromkeys([*named, *plugins.owners(parts)]))


def _settings(content: Mapping[str, Any], config: Config, source: str) -> dict[str, Any]:
    """The nested settings of a file by dotted name, without settings of parts that were not chosen."""
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
    """The settings of an environment's file under `presets`, by preset."""
    result = mapping(content.get("presets", {}), f"presets in configs/env/{name}.yaml")
    for preset in result:
        if not exists("preset", preset):
            raise SettingError(
                f"unknown preset {preset!r} in configs/env/{name}.yaml{suggest(preset, available('preset'))}"
            )
    return result


def _last(key: str, levels: list[Level]) -> str:
    return [content[key] for _, content in levels if key in content][-1]
