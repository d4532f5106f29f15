"""Conversion of values to their types, and checks of a configuration before anything compiles."""

from __future__ import annotations

import decimal
import difflib
import math
import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from gpgrad.errors import SettingError, suggest

if TYPE_CHECKING:
    from gpgrad.config.schema import Config

LARGEST = 2**31 - 1  # steps and seeds are counted in int32
LONGEST = 80  # characters of a value in a message
_UNITS = {"k": "e3", "K": "e3", "M": "e6"}  # at the end of a whole number, as in 5k and 1.05M
_BOOLS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def coerce(value: Any, kind: Any, name: str) -> Any:
    """The value converted to a type, from a Python value or from text. Raises SettingError."""
    if get_origin(kind) is Literal:
        options = {str(option): option for option in get_args(kind)}
        if isinstance(value, str | bool | int) and str(value) in options:
            return options[str(value)]
        raise SettingError(f"{name} is {short(value)}{suggest(short(value), options)}")
    if get_origin(kind) in (Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return coerce(value, next(option for option in get_args(kind) if option is not types.NoneType), name)
    if get_origin(kind) is tuple:
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise SettingError(f"{name} must be values separated by commas, or a list (got {short(value)})")
        return tuple(coerce(item, get_args(kind)[0], name) for item in items)
    if kind not in _CONVERTERS:
        raise SettingError(
            f"the type of {name} must be bool, int, float, str, Literal, a tuple or an optional (got {kind})"
        )
    try:
        return _CONVERTERS[kind](value)
    except (ValueError, TypeError, ArithmeticError):
        raise SettingError(f"{name} must be {_DESCRIPTIONS[kind]} (got {short(value)})") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown setting: those that it may stand for, such as learner.lr for lr."""
    known = list(known)
    tails: dict[str, list[str]] = {}
    for setting in known:
        tails.setdefault(setting.rpartition(".")[2], []).append(setting)
    head, _, tail = name.rpartition(".")
    near = [tail] if tail in tails else difflib.get_close_matches(tail, tails, n=1, cutoff=0.7)
    found = [setting for each in near for setting in tails[each]]
    found = [setting for setting in found if head and setting.startswith(f"{head}.")] or found
    found = found or difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if not found:
        return "; gpgrad train --help lists all settings"
    return f"; did you mean {' or '.join(map(repr, found))}?"


def short(value: Any) -> str:
    """A value as text for a message, on one line and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # an integer of thousands of digits, or a class with a broken repr
        text = f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 4 :]}"


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() not in _BOOLS:
        raise ValueError
    return _BOOLS[str(value).lower()]


def _int(value: Any) -> int:
    if isinstance(value, str) and value[-1:] in _UNITS and value[-2:-1].isdecimal():
        value = value[:-1] + _UNITS[value[-1]]
    number = _float(value)
    if isinstance(value, str) and decimal.Decimal(value) % 1:  # exactly, where a float would be rounded
        raise ValueError
    if not number.is_integer():
        raise ValueError
    return int(value) if isinstance(value, int) or str(value).lstrip("+-").isdigit() else int(number)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {bool: _bool, int: _int, float: _float, str: _str}
_DESCRIPTIONS = {
    bool: "true or false",
    int: "a whole number such as 5000, 5k or 1.05M",
    float: "a finite number",
    str: "text",
}


def check_name(name: str | None) -> None:
    """Raise SettingError unless a run's name is the name of a single folder."""
    if name is not None and (not name or name in (".", "..") or any(mark in name for mark in ("/", "\0"))):
        raise SettingError(f"log.name must be the name of a single folder in log.dir, without / (got {short(name)})")


def check(config: Config) -> None:
    """Raise SettingError for invalid values and inconsistent sizes."""
    learner, rollout, evaluation = config.learner, config.rollout, config.evaluation
    positive = {
        "seeds": config.seeds,
        "t_max": config.t_max,
        "agent.hidden": config.agent.hidden,
        "agent.layers": config.agent.layers,
        "learner.lr": learner.lr,
        "learner.clip": learner.clip,
        "learner.loss_factor": learner.loss_factor,
        "learner.reward_scale": learner.reward_scale,
        "learner.batch_episodes": learner.batch_episodes,
        "learner.updates_per_episode": learner.updates_per_episode,
        "learner.target_every_episodes": learner.target_every_episodes,
        "replay.capacity": config.replay.capacity,
        "rollout.worlds": rollout.worlds,
        "rollout.anneal_steps": rollout.anneal_steps,
        "evaluation.episodes": evaluation.episodes,
        "evaluation.every_steps": evaluation.every_steps,
        "evaluation.final_episodes": evaluation.final_episodes,
        "checkpoint.every_minutes": config.checkpoint.every_minutes,
        "checkpoint.keep": config.checkpoint.keep,
    }
    for name, value in positive.items():
        if value <= 0:
            raise SettingError(f"{name} must be more than 0 (got {value})")
    unit = {
        "learner.gamma": learner.gamma,
        "learner.td_lambda": learner.td_lambda,
        "rollout.start": rollout.start,
        "rollout.finish": rollout.finish,
    }
    for name, value in unit.items():
        if not 0 <= value <= 1:
            raise SettingError(f"{name} must be between 0 and 1 (got {value})")
    if rollout.finish > rollout.start:
        raise SettingError(f"rollout.finish must be at most rollout.start = {rollout.start} (got {rollout.finish})")
    if config.seed < 0 or config.seed + config.seeds > LARGEST:
        raise SettingError(f"seed must be 0 or more, with all seeds below {LARGEST} (got {config.seed})")
    if config.devices is not None and config.devices < 1:
        raise SettingError(f"devices must be 1 or more, or none for all devices (got {config.devices})")
    if config.t_max > LARGEST // 2:
        raise SettingError(f"t_max must be at most {LARGEST // 2} (got {config.t_max})")
    if evaluation.every_episodes is not None and evaluation.every_episodes < 1:
        raise SettingError(f"evaluation.every_episodes must be 1 or more (got {evaluation.every_episodes})")
    _check_sizes(config)


def _check_sizes(config: Config) -> None:
    learner, worlds, capacity = config.learner, config.rollout.worlds, config.replay.capacity
    if capacity < learner.batch_episodes:
        raise SettingError(
            f"replay.capacity must be at least learner.batch_episodes = {learner.batch_episodes} (got {capacity})"
        )
    if capacity % worlds:
        raise SettingError(
            f"replay.capacity must be a multiple of rollout.worlds = {worlds}, such as "
            f"{-(-capacity // worlds) * worlds} (got {capacity})"
        )
    if worlds > learner.target_every_episodes:
        raise SettingError(
            f"rollout.worlds must be at most learner.target_every_episodes = {learner.target_every_episodes}, since a "
            f"copy of the target network would be skipped (got {worlds})"
        )
    updates = worlds * learner.updates_per_episode
    if abs(updates - round(updates)) > 1e-6 or round(updates) < 1:
        raise SettingError(
            f"learner.updates_per_episode times rollout.worlds = {worlds} must be a whole number of gradient steps "
            f"(got {learner.updates_per_episode}, which gives {updates:g})"
        )
