"""What commands share: options of the command line."""

from __future__ import annotations

from collections.abc import Sequence

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
