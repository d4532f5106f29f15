"""What commands share: options of the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpgrad.errors import SettingError

CHOICES = ("env", "algo")
REPEATED = ("plugin",)  # options that may be given several times, or once with commas


def options(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value` pairs. Raises SettingError for anything else."""
    result: dict[str, str] = {}
    rest = iter(arguments)
    for token in rest:
        if not token.startswith("--") or len(token) == 2:
            raise SettingError(f"unexpected argument {token!r}; options are --name VALUE")
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


def help_text(usage: str, options: Mapping[str, str]) -> str:
    """The help of a command: its usage, and a line for each option. options: `name VALUE` to a sentence."""
    width = max((len(name) for name in options), default=0)
    lines = [f"  --{name:<{width}}  {sentence}" for name, sentence in options.items()]
    return "\n".join(["usage: gpgrad", "", usage, "", *lines, ""])


def run_of(text: str) -> Path:
    """The folder of a run that was named, without importing jax. Raises SettingError where there is none."""
    folder = path_of(text)
    if not (folder / "config.yaml").is_file():
        raise SettingError(f"{folder} holds no run, expected a folder with config.yaml")
    return folder


def finished_run_of(text: str) -> Path:
    """As `run_of`, with a trained team."""
    folder = path_of(text)
    if not (folder / "config.yaml").is_file() or not (folder / "team").is_dir():
        raise SettingError(f"{folder} holds no finished run, expected a folder with config.yaml and team")
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
