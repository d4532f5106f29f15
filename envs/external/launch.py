"""A worker in another interpreter: `PYTHON launch.py LINK MEMORY LANE LANES RECIPE`, see `worker`.

That interpreter needs Python 3.8 and NumPy, and nothing else of gpgrad. The packages around the worker are made here,
because importing them may need a newer Python, and because the folder with gpgrad may have packages for this Python.
This file itself is understood by any Python 3, so that old ones get an error message.
"""

import json
import os
import socket
import sys
import types

OLDEST = (3, 8)


def main():
    """Serve as `worker.main`; returns 1 if this interpreter cannot."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]  # its names are common ones
    if sys.version_info[:2] < OLDEST:
        return refuse("it is Python {}.{}, must be 3.8 or later".format(*sys.version_info[:2]))
    parts = {"gpgrad.envs": os.path.dirname(folder), "gpgrad": os.path.dirname(os.path.dirname(folder))}
    for name, place in parts.items():
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = [place]
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        return refuse(f"it cannot import numpy ({error}): {sys.executable} -m pip install numpy")
    from gpgrad.envs.external import worker

    return worker.main(sys.argv[1:])


def refuse(reason):
    """Send, instead of sizes, the reason why this interpreter cannot be used."""
    sentence = f"the interpreter {sys.executable} cannot run workers: {reason}"
    socket.socket(fileno=int(sys.argv[1])).sendall(json.dumps({"missing": sentence}).encode() + b"\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
