"""`python -m gpgrad.experiments ...` is `gpgrad experiment ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gpgrad import __main__ as program


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `gpgrad experiment` with these arguments; its exit code."""
    return program.main(["experiment", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.argv.insert(1, "experiment")
    sys.exit(program.script())
