"""What commands share: options of the command line, finished runs and their teams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from envs.errors import SettingError

CHOICES = ("env", "algo")
REPEATED = ("plugin",)  # options that may be given several times, or once with commas


def options(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value` pairs. Raises SettingError for anything else."""
    result: dict[str, str] = {}
    rest = iter(arguments)
    for token in rest:
        if not token.startswith("--") or len(token) == 2:
            raise SettingError(f"unexpected argument {token!r}, expected --setting value")
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            value = next(rest, "--")
            if value == "--" or (value.startswith("--") and len(value) > 2):
                raise SettingError(f"--{name} has no value, expected --{name} VALUE")
        if name in result and name in REPEATED:
            value = f"{result.pop(name)},{value}"
        if name in result:
            raise SettingError(f"--{name} is given twice")
        result[name] = value
    return result


def finished(folder: Path):
    """The settings of a finished run. Raises SettingError for any other folder."""
    from gpgrad import config

    if not (folder / "team").is_dir():
        raise SettingError(f"{folder} holds no finished run, expected a folder with config.yaml and team")
    return config.parse(folder / "config.yaml")


def load_team(folder: Path, program, seeds: int):
    """The teams of a finished run. Raises SettingError where they do not fit."""
    from gpgrad import checkpoint

    try:
        return checkpoint.load_team(folder, program, seeds)
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise SettingError(f"the team in {folder} does not fit its config.yaml or is damaged: {problem}") from None
