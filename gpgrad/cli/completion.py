"""`completion`: what the Tab key offers in a shell."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from gpgrad.cli import COMMANDS
from gpgrad.errors import SettingError, suggest

USAGE = """\
  completion bash | zsh                               a script for the Tab key: eval "$(gpgrad completion bash)\""""
OPTIONS: dict[str, str] = {}
SHELLS = ("bash", "zsh")
SETTINGS = ("train", "bench", "params")  # commands that take every setting

SCRIPT = """\
_gpgrad() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"
  else case "$before" in
{values}
  *) case "${{COMP_WORDS[1]}}" in
{options}
    esac ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _gpgrad gpgrad"""


def main(arguments: Sequence[str]) -> int:
    """Print the script for a shell. Settings are those of pp_small and qmix, without importing jax."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        given = " ".join(arguments)
        raise SettingError(f"completion is for one shell{suggest(given, SHELLS)}")
    from gpgrad import config, envs
    from gpgrad.config import presets
    from gpgrad.methods import registry

    values = {"env": envs.names(), "algo": config.algorithms(), "preset": presets.available("preset")}
    values |= {kind: registry.names(kind) for kind in registry.KINDS}
    settings = [f"--{name}" for name in ("algo", "preset", *config.types(config.load()))]
    options = {name: [*_options(name), *(settings if name in SETTINGS else [])] for name in COMMANDS}
    if arguments[0] == "zsh":
        print("autoload -U +X bashcompinit && bashcompinit")
    cases = [f'  --{name}) words="{" ".join(found)}" ;;' for name, found in values.items()]
    lines = [f'    {name}) words="{" ".join(dict.fromkeys(found))}" ;;' for name, found in options.items()]
    print(SCRIPT.format(commands=" ".join(COMMANDS), values="\n".join(cases), options="\n".join(lines)))
    return 0


def _options(command: str) -> list[str]:
    names = [name.split()[0] for name in importlib.import_module(f"gpgrad.cli.{command}").OPTIONS]
    return [*(f"--{name}" for name in names if name.islower() and "*" not in name), "--help"]
