"""A process on one core that trains a share of a run's seeds, with one compiled program. `seed_layout` starts it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from gpgrad.config import parse
from gpgrad.errors import SettingError
from gpgrad.learning.program import Program, make_program
from gpgrad.runs import lock, provenance
from gpgrad.runs.divergence import Diverged
from gpgrad.training import loop, warm_start


def main(folders: Sequence[str]) -> int:
    """Train these single-seed runs, each from its newest checkpoint; returns 1 if one failed. The others go on."""
    failed, program = False, None
    for folder in map(Path, folders):
        try:
            program = train(folder, program)
        except (SettingError, Diverged) as error:
            failed = True
            print(f"seed {folder.name}: {error}", flush=True)
        except Exception as error:
            failed = True
            traceback.print_exc()
            print(f"seed {folder.name}: {type(error).__name__}: {error}", flush=True)
        except KeyboardInterrupt as stop:
            print(f"seed {folder.name}: {str(stop) or 'interrupted'}", flush=True)
            return 130
    return int(failed)


def train(folder: Path, program: Program | None) -> Program:
    """Train one seed to its end; returns the program, which is the same for every seed."""
    config = parse(folder / "config.yaml")
    provenance.check(folder, config)
    config = warm_start.located(config, folder)
    program = program or make_program(config)

    def say(line: str) -> None:
        print(f"seed {folder.name}: {line}", flush=True)

    with lock.hold(folder / lock.NAME, f"the run in {folder}"):
        loop.finish(config, program, folder, say)
    say("finished")
    return program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
