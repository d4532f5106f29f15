"""What commands share: types of arguments and options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import click.shell_completion

from gpgrad.errors import SettingError, suggest

REPEATED = ("plugin",)  # settings that may be given several times, or once with commas


def options(arguments: Sequence[str]) -> dict[str, str]:
    """Settings that click does not know: `--name value` and `--name=value` pairs. Raises SettingError for others."""
    result: dict[str, str] = {}
    rest = iter(arguments)
    for token in rest:
        if not token.startswith("--") or len(token) == 2:
            raise SettingError(f"unknown argument {token!r}: settings must be written --name VALUE")
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            value = next(rest, "--")
            if value == "--" or (value.startswith("--") and len(value) > 2):
                raise SettingError(f"--{name} has no value; must be --{name} VALUE")
        if name in result and name in REPEATED:
            value = f"{result.pop(name)},{value}"
        if name in result:
            raise SettingError(f"--{name} is given twice")
        result[name] = value
    return result


class Number(click.ParamType):
    """A number as settings take it, such as 5k, between bounds."""

    name = "number"

    def __init__(self, kind: type, low: float | None = None, high: float | None = None):
        self.kind, self.low, self.high = kind, low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises SettingError."""
        from gpgrad.config import validate

        name = _name_of(param)
        number = validate.coerce(value, self.kind, name)
        if (self.low is None or number >= self.low) and (self.high is None or number <= self.high):
            return number
        bounds = f"between {_shown(self.low)} and {_shown(self.high)}" if self.high else f"at least {_shown(self.low)}"
        raise SettingError(f"{name} must be {bounds} (got {_shown(number)})")


class Choice(click.Choice):
    """One of some names."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name. Raises SettingError, with the nearest valid name."""
        if value in self.choices:
            return value
        raise SettingError(f"{_name_of(param)} is {value!r}{suggest(value, self.choices)}")


class Place(click.ParamType):
    """A file or folder that a function finds or refuses with SettingError."""

    name = "path"

    def __init__(self, find: Callable[[str], Path], complete: str = "file"):
        self.find, self.complete = find, complete

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Raises SettingError."""
        return self.find(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Files or folders, by the shell's own completion."""
        return [click.shell_completion.CompletionItem(incomplete, type=self.complete)]


def named(find: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """The names that the Tab key offers for an option; found when they are asked for."""
    return lambda ctx, param, incomplete: [name for name in find() if name.startswith(incomplete)]


def environments() -> Iterable[str]:
    """Names of environments."""
    from gpgrad import envs

    return envs.names()


def algorithms() -> Iterable[str]:
    """Names of algorithms."""
    from gpgrad import config

    return config.algorithms()


ENV: dict[str, Any] = {"metavar": "NAME", "shell_complete": named(environments)}
ALGO: dict[str, Any] = {"metavar": "NAME", "shell_complete": named(algorithms)}


def _name_of(param: click.Parameter | None) -> str:
    """As the help writes it: --jobs, SHELL."""
    if isinstance(param, click.Argument):
        return param.human_readable_name
    return param.opts[0] if param else "the value"


def _shown(number: float | None) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def run_of(text: str) -> Path:
    """The folder of a run that was named, without importing jax. Raises SettingError where there is none."""
    folder = path_of(text)
    if not (folder / "config.yaml").is_file():
        raise SettingError(f"{folder} holds no run: it must have config.yaml")
    return folder


def team_of(text: str) -> Path:
    """The folder of a run, a file with a team, or team:NAME, a team of the package. Raises SettingError."""
    if text.startswith("team:"):
        from gpgrad.policies import bundled

        return bundled.find(text.removeprefix("team:"))
    path = path_of(text)
    return path if path.is_file() else run_of(text)


def finished_run_of(text: str) -> Path:
    """As `run_of`, with a trained team."""
    folder = path_of(text)
    if not (folder / "config.yaml").is_file() or not (folder / "team").is_dir():
        raise SettingError(f"{folder} holds no finished run: it must have config.yaml and team")
    return folder


def file_to_write(text: str) -> Path:
    """A file that is to be written, asked for before the work that fills it. Raises SettingError where none can be."""
    path = path_of(text)
    if path.is_dir() or not path.parent.is_dir():
        raise SettingError(f"{text} cannot be written; must be a file in an existing folder")
    return path


def path_of(text: str) -> Path:
    """A file or folder that was named, with ~ for the home folder. Raises SettingError for what names none."""
    if not text or "\0" in text:
        raise SettingError(f"{text!r} cannot be the name of a file or folder")
    path = Path(os.path.expanduser(text))
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # for others to say: it may be one to write
    except OSError as error:
        from gpgrad.config import validate

        raise SettingError(f"{validate.short(text)} cannot be the name of a file or folder: {error.strerror}") from None
    return path


PATH = Place(path_of)
FOLDER = Place(path_of, "dir")
RUN = Place(run_of, "dir")
TEAM = Place(team_of, "dir")
OUTPUT = Place(file_to_write)
