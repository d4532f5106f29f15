"""`export`: a team's decentralised policies as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

from gpgrad.cli.arguments import options, path_of, run_of
from gpgrad.errors import SettingError, suggest

USAGE = """\
  export RUN --out FILE.npz|FILE.safetensors [--seed N]
                                                      a team's policies as arrays, to act without JAX"""
OPTIONS = {
    "out FILE": "a name ending in .npz or .safetensors",
    "seed N": "which seed, by default the first",
}


def main(arguments: Sequence[str]) -> int:
    """Write one seed's policies, and say what is in the file."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("export needs the folder of a finished run, as in: gpgrad export runs/NAME --out team.npz")
    folder, given = run_of(arguments[0]), options(arguments[1:])
    for name in given:
        if name not in ("out", "seed"):
            raise SettingError(f"unknown option --{name}{suggest(name, ['out', 'seed'])}")
    if "out" not in given:
        raise SettingError("export needs --out FILE, as in --out team.npz")
    from gpgrad.config import validate
    from gpgrad.policies import export
    from gpgrad.policies.load import load_team

    seed = validate.coerce(given["seed"], int, "--seed") if "seed" in given else None
    team = load_team(folder, seed, finished=True)
    arrays = export.write(team, path_of(given["out"]))
    numbers = sum(array.size for array in arrays.values())
    print(f"{given['out']}: {len(arrays)} arrays, {numbers:,} numbers, seed {team.seed} of {folder}")
    return 0
