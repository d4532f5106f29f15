"""The names of decompositions, sharing schemes and weightings, and the settings each accepts.

A part is a maker: `make(context, **settings) -> record`. Its settings are its keyword parameters, so adding a part
is one file and one line here, or one call of `register` from outside.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any, Literal, NamedTuple, Protocol, get_args, get_type_hints

from gpgrad import signatures
from gpgrad.envs.registry import importing
from gpgrad.errors import SettingError, suggest
from gpgrad.methods.activity import ActivityCheck

Kind = Literal["decomposition", "sharing", "weighting"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Maker(Protocol):
    """A function that makes a part: its keyword parameters, with types and defaults, are the part's settings."""

    def __call__(self, context: Any, /, **settings: Any) -> Any:
        """A Decomposition, Sharing or Weighting. Raises SettingError for settings that cannot be."""
        ...


_PARTS: dict[Kind, dict[str, str | Maker]] = {
    "decomposition": {
        "iql": "gpgrad.methods.decomposition.iql:make",
        "vdn": "gpgrad.methods.decomposition.vdn:make",
        "qmix": "gpgrad.methods.decomposition.qmix:make",
        "qatten": "gpgrad.methods.decomposition.qatten:make",
        "qplex": "gpgrad.methods.decomposition.qplex:make",
        "qtran": "gpgrad.methods.decomposition.qtran:make",
        "cw_qmix": "gpgrad.methods.decomposition.wqmix:make_central",
        "ow_qmix": "gpgrad.methods.decomposition.wqmix:make_optimistic",
        "dmix": "gpgrad.methods.decomposition.dmix:make",
        "ddn": "gpgrad.methods.decomposition.dmix:make_sum",
        "rmix": "gpgrad.methods.decomposition.rmix:make",
    },
    "sharing": {
        "fups": "gpgrad.methods.sharing.fups:make",
        "fups_id": "gpgrad.methods.sharing.fups:make_with_id",
        "fups_wide": "gpgrad.methods.sharing.fups:make_wide",
        "fups_deep": "gpgrad.methods.sharing.fups:make_deep",
        "nops": "gpgrad.methods.sharing.nops:make",
        "seps": "gpgrad.methods.sharing.seps:make",
        "snp": "gpgrad.methods.sharing.snp:make",
        "adaps": "gpgrad.methods.sharing.adaps:make",
        "kaleidoscope": "gpgrad.methods.sharing.kaleidoscope:make",
        "kaleidoscope_deep": "gpgrad.methods.sharing.kaleidoscope:make_deep",
        "redo": "gpgrad.methods.sharing.redo:make",
        "gradps": "gpgrad.methods.sharing.gradps.scheme:make",
        "gradps_as_printed": "gpgrad.methods.sharing.gradps.scheme:as_printed",
        "gradps_as_released": "gpgrad.methods.sharing.gradps.scheme:as_released",
        "gradps_random": "gpgrad.methods.sharing.gradps.scheme:with_random_groups",
        "gradps_oracle": "gpgrad.methods.sharing.gradps.scheme:with_roles",
    },
    "weighting": {
        "none": "gpgrad.methods.weighting.none:make",
        "gpvd": "gpgrad.methods.weighting.gpvd:make",
        "gpvd_random": "gpgrad.methods.weighting.gpvd_random:make",
    },
}


# Of the parts that can stay idle in a run; read without importing the parts.
_PROTECTION = "gpgrad.methods.weighting.gpvd_activity:PROTECTION"
_CLONING = "gpgrad.methods.sharing.gradps.activity:CLONING"
_ACTIVITY: dict[tuple[Kind, str], str | ActivityCheck] = {
    **{("weighting", name): _PROTECTION for name in _PARTS["weighting"] if name.startswith("gpvd")},
    **{("sharing", name): _CLONING for name in _PARTS["sharing"] if name.startswith("gradps")},
}
_ORIGINS: dict[tuple[Kind, str], frozenset[str]] = {}


class Option(NamedTuple):
    """A setting's type and default."""

    type: Any
    default: Any


def names(kind: Kind) -> list[str]:
    """All registered parts of a kind."""
    return list(_PARTS[kind])


def register(kind: Kind, name: str, maker: Maker | str, activity: ActivityCheck | None = None) -> None:
    """Make a part known under a name; `maker` is a callable or "module:function". Raises SettingError.

    activity: how to tell from a run's rows that the part acted; runs in which it did not are reported.
    """
    if kind not in KINDS:
        raise SettingError(f"unknown kind {kind!r}{suggest(str(kind), KINDS)}")
    if name in _PARTS[kind]:
        raise SettingError(f"a {kind} named {name!r} is already registered")
    _PARTS[kind][name] = maker
    if activity is not None:
        _ACTIVITY[kind, name] = activity
    _ORIGINS[kind, name] = importing()
    _options.cache_clear()


def forget(kind: Kind, name: str) -> None:
    """Take back a registration."""
    del _PARTS[kind][name]
    _ORIGINS.pop((kind, name), None)  # parts of the table above have none
    _ACTIVITY.pop((kind, name), None)
    _options.cache_clear()


def origins() -> dict[tuple[Kind, str], frozenset[str]]:
    """The modules that were being imported when each part from outside was registered, by kind and name."""
    return dict(_ORIGINS)


def maker(kind: Kind, name: str) -> Maker:
    """The maker of a part. Raises SettingError for an unknown name."""
    if name not in _PARTS[kind]:
        raise SettingError(f"unknown {kind} {name!r}{suggest(name, names(kind))}")
    return _resolve(_PARTS[kind][name])


def activity_check(kind: Kind, name: str) -> ActivityCheck | None:
    """How to tell that a part acted in a run; None for parts without such a check."""
    return _resolve(_ACTIVITY.get((kind, name)))


def activity_checks() -> list[ActivityCheck]:
    """The checks of all registered parts, each once."""
    return list({check.metric: check for check in map(_resolve, _ACTIVITY.values())}.values())


def _resolve(entry: Any) -> Any:
    """What "module:name" names, or the entry itself."""
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def entry(kind: Kind, name: str) -> str | Maker:
    """What makes a part: "module:function", or the callable itself."""
    return _PARTS[kind][name]


def module(kind: Kind, name: str) -> str:
    """The module of a part's maker."""
    if name not in _PARTS[kind]:
        raise SettingError(f"unknown {kind} {name!r}{suggest(name, names(kind))}")
    entry = _PARTS[kind][name]
    return entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")


def options(kind: Kind, name: str) -> dict[str, Option]:
    """The settings a part accepts: its maker's keyword parameters."""
    return dict(_options(kind, name))


@functools.cache
def _options(kind: Kind, name: str) -> dict[str, Option]:
    entry = _PARTS[kind].get(name)
    found = signatures.read(entry) if isinstance(entry, str) else None
    if found is not None:
        return {key: Option(*parameter) for key, parameter in [*found.parameters.items()][1:]}
    make = maker(kind, name)
    hints = get_type_hints(make)
    parameters = list(inspect.signature(make).parameters.values())[1:]  # the first is the context
    for p in parameters:
        if p.name not in hints or p.default is p.empty:
            raise SettingError(f"the setting {p.name!r} of {kind} {name!r} needs a type and a default in its maker")
    return {p.name: Option(hints[p.name], p.default) for p in parameters}
