"""The environment variables of child processes."""

from __future__ import annotations

import os
import sys


def environment(**variables: str) -> dict[str, str]:
    """Variables for a child process that imports the same modules as this one: this process's and some more.

    `python -m` puts the working directory before everything else, and a project that is trained in may have packages
    called `types` or `envs`. A child gets this process's search path instead.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **variables}
