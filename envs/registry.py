"""Environments by name. The table has module paths, so that listing names imports neither jax nor an environment."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gpgrad import signatures
from gpgrad.envs.jaxmarl.names import REFUSED, TRAINS
from gpgrad.errors import SettingError, suggest

if TYPE_CHECKING:
    from gpgrad.envs.api import Env

_NAME = "name"  # a factory's parameter that receives the registered name and is not an option


@dataclasses.dataclass(frozen=True)
class _Entry:
    """factory: "module:attribute", or the callable itself. defaults: options preset by this name."""

    factory: str | Callable[..., Env]
    family: str
    defaults: Mapping[str, Any]

    def resolve(self) -> Callable[..., Env]:
        return _imported(self.factory) if isinstance(self.factory, str) else self.factory


def _imported(factory: str) -> Callable[..., Env]:
    module, _, attribute = factory.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(f"the environment {factory!r} cannot be imported: {error}") from error


def make(name: str, **overrides: Any) -> Env:
    """The environment of that name, with some of its `options` changed.

    Raises SettingError for unknown names and options, values of the wrong type and invalid sizes.
    """
    entry = _entry(name)
    known = options(name)
    values = dict(entry.defaults)
    for option, value in overrides.items():
        if option not in known:
            raise SettingError(f"{name} has no option {option!r}" + suggest(option, known))
        values[option] = _checked(name, option, value, known[option][0])
    for option, (_, default) in known.items():
        if default is inspect.Parameter.empty and option not in values:
            raise SettingError(f"{name} needs a value for {option}")
    factory = entry.resolve()
    if _NAME in inspect.signature(factory).parameters:
        values[_NAME] = name
    try:
        return factory(**values)
    except SettingError:
        raise
    except Exception as error:
        if is_built_in(name):
            raise
        message = " ".join(str(error).split())
        raise SettingError(f"the environment {name} cannot be built: {type(error).__name__}: {message}") from error


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_TABLE)


def options(name: str) -> dict[str, tuple[Any, Any]]:
    """The options of an environment: name to (type annotation, default value).

    The default of a required option is `inspect.Parameter.empty`.
    """
    entry = _entry(name)
    factory = entry.factory
    found = _parameters_of(factory) if isinstance(factory, str) else _parameters(factory)
    return {option: (hint, entry.defaults.get(option, default)) for option, (hint, default) in found.items()}


@functools.cache
def _parameters_of(factory: str) -> dict[str, tuple[Any, Any]]:
    found = signatures.read(factory)
    if found is None:
        return _parameters(_imported(factory))
    empty = inspect.Parameter.empty
    return {
        option: (Any if kind is signatures.EMPTY else kind, empty if default is signatures.EMPTY else default)
        for option, (kind, default) in found.parameters.items()
        if option != _NAME
    }


def _parameters(factory: Callable[..., Env]) -> dict[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return {
        option: (hints.get(option, Any), parameter.default)
        for option, parameter in inspect.signature(factory).parameters.items()
        if option != _NAME and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def family(name: str) -> str:
    """The family of an environment, such as "matrix" or "predator_prey"."""
    return _entry(name).family


def known(name: str) -> bool:
    """Whether a name is registered or matches a pattern of external environments."""
    return name in _TABLE or _pattern(name) is not None


def patterns() -> list[str]:
    """The patterns of external environments' names; only the simulator knows which names exist."""
    return list(PATTERNS)


def is_external(name: str) -> bool:
    """Whether an environment is external: a Python program in worker processes."""
    factory = _entry(name).factory
    return isinstance(factory, str) and factory.startswith("gpgrad.envs.external.")


def factory(name: str) -> str | Callable[..., Env]:
    """What makes a world: "module:attribute", or the callable itself."""
    return _entry(name).factory


def module(name: str) -> str:
    """The module that defines an environment; of an external one, `gpgrad.envs.external.env`."""
    factory = _entry(name).factory
    path = factory.partition(":")[0] if isinstance(factory, str) else getattr(factory, "__module__", "")
    return path.replace("gpgrad.envs.external.names", "gpgrad.envs.external.env")


def is_built_in(name: str) -> bool:
    """Whether an environment is one of this package's JAX environments, which its tests check."""
    return name in _BUILT_IN


def register(name: str, factory: str | Callable[..., Env], family: str, **defaults: Any) -> None:
    """Register an environment.

    factory: returns a `gpgrad.envs.api.Env`; a callable, or "module:attribute" to import it on first use. Its annotated
    keyword parameters become the options; a parameter `name` receives the registered name.
    family: decides which file of `configs/env` applies, and the numerics version.
    defaults: values of some options. Raises SettingError if the name is taken.
    """
    if name in _TABLE:
        raise SettingError(f"the environment name {name!r} is taken; choose another")
    _ORIGINS[name] = importing()
    _TABLE[name] = _Entry(factory, family, types.MappingProxyType(dict(defaults)))


def forget(name: str) -> None:
    """Remove a registration."""
    del _TABLE[name]
    _ORIGINS.pop(name, None)


def origins() -> dict[str, frozenset[str]]:
    """The modules that were being imported when each environment was registered, by its name."""
    return dict(_ORIGINS)


def importing() -> frozenset[str]:
    """The modules that are being imported now, outermost ones included."""
    found, frame = set(), inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            found.add(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return frozenset(found)


def refuse(name: str, reason: str) -> None:
    """Record the reason why an environment that users may look for does not exist."""
    _REFUSED[name] = reason


def missing(name: str) -> str:
    """The end of a message about an unknown name: the reason why it does not exist, or the nearest name."""
    return f": {_REFUSED[name]}" if name in _REFUSED else suggest(name, names())


def _entry(name: str) -> _Entry:
    if name in _TABLE:
        return _TABLE[name]
    pattern = _pattern(name)
    if pattern is None:
        raise SettingError(f"there is no environment {name!r}{missing(name)}")
    return _Entry(f"gpgrad.envs.external.names:{PATTERNS[pattern]}", pattern.partition("_")[0], {})


def _pattern(name: str) -> str | None:
    start, underscore, rest = name.partition("_")
    return next((p for p in PATTERNS if underscore and rest and p.startswith(f"{start}_")), None)


def _checked(name: str, option: str, value: Any, annotation: Any) -> Any:
    """The value as its annotated type; raises SettingError. Types that are not scalars are not checked."""
    accepted = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    for kind in accepted:
        if kind is Any or kind not in _SCALARS:
            return value
        abstract, convert = _SCALARS[kind]
        # A bool is an int in Python, but not a number here.
        if isinstance(value, abstract) and (kind is bool or not isinstance(value, bool)):
            return convert(value)
    expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in accepted)
    raise SettingError(f"{option} of {name} must be {expected} (got {value!r})")


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


_SCALARS: dict[Any, tuple[type, Callable[[Any], Any]]] = {
    bool: (bool, bool),
    int: (numbers.Integral, int),
    float: (numbers.Real, float),
    str: (str, str),
    type(None): (type(None), lambda value: value),
}

PATTERNS = {  # patterns of names, and the classes in gpgrad.envs.external.names
    "smac_<map>": "Smac",
    "smacv2_<race>_<n>_vs_<m>": "SmacV2",
    "smaclite_<map>": "Smaclite",
    "gym_<id>": "Gym",
    "pz_<module>": "Zoo",
    "host_<module>:<maker>": "Own",
}
_TABLE: dict[str, _Entry] = {}
_ORIGINS: dict[str, frozenset[str]] = {}
_REFUSED: dict[str, str] = {}

for _name, _factory in {
    "matrix_gpvd": "gpvd3",
    "matrix_additive": "gradps4",
    "matrix_qtran": "qtran3",
    "matrix_easy": "pymarl2_easy",
    "matrix_hard": "pymarl2_hard",
    "matrix_12_10": "pymarl2_12_10",
    "matrix_coord": "coord2",
    "matrix_climbing": "climbing",
    "matrix_penalty": "penalty",
    "two_step": "two_step",
    "nstep": "nstep",
}.items():
    register(_name, f"gpgrad.envs.matrix:{_factory}", "matrix")

_PREDATOR_PREY = "gpgrad.envs.predator_prey.env:PredatorPrey"
for _name, _side, _agents, _special in (("small", 20, 6, 2), ("medium", 25, 10, 3), ("large", 30, 15, 5)):
    register(
        f"pp_{_name}",
        _PREDATOR_PREY,
        "predator_prey",
        height=_side,
        width=_side,
        n_agents=_agents,
        n_special=_special,
        n_stags=_agents,
        n_hares=_agents,
        view_radius=3,
        episode_limit=150,
        penalty=0.0,
        freeze=False,
    )
for _name, _penalty in (("pp_p0", 0.0), ("pp_p2", -2.0)):
    register(
        _name,
        _PREDATOR_PREY,
        "predator_prey",
        height=10,
        width=10,
        n_agents=8,
        n_special=0,
        n_stags=8,
        n_hares=0,
        view_radius=2,
        episode_limit=200,
        penalty=_penalty,
        freeze=True,
    )

# JaxMARL's scenarios, then the papers' maps that gpgrad adds (a test compares with JaxMARL's own table).
SMAX_MAPS = (
    *(
        "3m",
        "8m",
        "25m",
        "5m_vs_6m",
        "10m_vs_11m",
        "27m_vs_30m",
        "2s3z",
        "3s5z",
        "3s5z_vs_3s6z",
        "3s_vs_5z",
        "6h_vs_8z",
    ),
    *("smacv2_5_units", "smacv2_10_units", "smacv2_20_units"),
    *("5m", "15m", "9z", "3s6z", "8m_vs_9m"),
)
for _name in SMAX_MAPS:
    register(f"smax_{_name}", "gpgrad.envs.smax.env:Smax", "smax", map=_name)
_UNITS = "SMAX has marines, marauders, stalkers, zealots, zerglings and hydralisks only"
for _name, _unit in {
    "MMM": "medivacs",
    "MMM2": "medivacs",
    "1c3s5z": "colossi",
    "1c3s8z_vs_1c3s9z": "colossi",
    "2c_vs_64zg": "colossi",
    "2s_vs_1sc": "spine crawlers",
}.items():
    refuse(f"smax_{_name}", f"{_name} needs {_unit}, and {_UNITS}")
# SMAC's maps: those of both papers and the others, then SMACv2's sampled teams (a test compares the tables).
BATTLE_MAPS = (
    *("3m", "5m", "8m", "15m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m", "MMM", "MMM2"),
    *("2s3z", "3s5z", "3s5z_vs_3s6z", "3s6z", "9z", "1c3s5z", "1c3s8z_vs_1c3s9z"),
    *("3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "2c_vs_64zg", "bane_vs_bane", "corridor"),
    *("2s_vs_1sc", "2m_vs_1z", "so_many_baneling", "6h_vs_8z"),
)
BATTLE_DRAWS = tuple(
    f"{race}_{sizes}"
    for race in ("terran", "protoss", "zerg")
    for sizes in ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
)
for _name in (*BATTLE_MAPS, *BATTLE_DRAWS):
    register(f"battle_{_name}", "gpgrad.envs.battles.env:Battle", "battle", map=_name)
register("battle_custom", "gpgrad.envs.battles.env:Battle", "battle")
for _name in ("simple_spread", "simple_reference", "simple_speaker_listener"):
    register(f"mpe_{_name}", "gpgrad.envs.mpe:Mpe", "mpe", scenario=_name)
for _name, _factory in TRAINS.items():
    register(f"jaxmarl_{_name}", f"gpgrad.envs.jaxmarl.{_factory}", "jaxmarl")
for _name, _reason in REFUSED.items():
    refuse(f"jaxmarl_{_name}", _reason)

_BUILT_IN = frozenset(_TABLE)
_ORIGINS.clear()  # only those of plugins are kept
