"""Processes of simulators: starting, messages, shutdown."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time

import numpy as np

from gpgrad import children
from gpgrad.envs.external import worker
from gpgrad.envs.external.examination import Examined
from gpgrad.envs.external.protocol import Recipe, Sizes, loads
from gpgrad.errors import SettingError

_LONGEST_REASON = 300  # characters
_TAIL = 2000  # bytes of a worker's output shown in messages
_LONGEST_OUTPUT = 2**20  # bytes of output that are kept
PATIENCE = 5.0  # seconds for a worker to exit by itself


class SimulatorError(ChildProcessError):
    """A simulator that cannot be used; the message has the end of its output."""


class Process:
    """A worker in its own process group, with its output in an anonymous file.

    folder: its folder for temporary files, since killed simulators leave theirs behind.
    """

    def __init__(self, recipe: str, memory: int = worker.ONLY_SIZES, lane: int = 0, lanes: int = 1) -> None:
        self.link, theirs = socket.socketpair()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115, closed by `kill`
        fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_APPEND)  # so that it can be truncated while in use
        passed = [theirs.fileno(), *([memory] if memory >= 0 else [])]
        python = Recipe(**json.loads(recipe)).python
        self.folder = tempfile.mkdtemp(prefix="gpgrad-worker-")
        numbers = [str(n) for n in (theirs.fileno(), memory, lane, lanes)]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*program(python), *numbers, recipe],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    pass_fds=passed,
                    start_new_session=True,  # a group that can be killed as a whole and does not receive Ctrl-C
                    env={**environment(python), "TMPDIR": self.folder},
                )
        except OSError as error:
            self.link.close()
            self._output.close()
            os.rmdir(self.folder)
            if python is None:
                raise
            raise SettingError(f"python must be the path of a Python interpreter (got {python!r}: {error})") from None
        self.pid, self._heard = self._process.pid, b""

    def hear_sizes(self, seconds: float) -> Sizes:
        """The sizes, a worker's first line. Raises SimulatorError, or SettingError if something is not installed."""
        text = self._line(seconds, "the simulator was not built within", "the simulator could not be built")
        content = json.loads(text)
        if "missing" in content:
            raise SettingError(content["missing"])
        if "broken" in content:
            raise SimulatorError(f"the simulator could not be built: {content['broken']}")
        return loads(text)

    def hear_findings(self, seconds: float) -> Examined:
        """The findings, the second line of a worker that checks its simulator. Raises SimulatorError."""
        text = self._line(seconds, "the first steps were not done within", "its worker exited during the first steps")
        return Examined(**json.loads(text))

    def hear_line(self, seconds: float) -> str:
        """A line, the answer to a request for a picture or a replay. Raises SimulatorError."""
        return self._line(seconds, "no answer within", "")

    def hear_picture(self, seconds: float) -> np.ndarray:
        """A picture uint8 [H, W, 3], of size 0 if there is none. Raises SimulatorError."""
        height, width = map(int, self.hear_line(seconds).split())
        data = self.hear_bytes(3 * height * width, seconds)
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)

    def hear_bytes(self, count: int, seconds: float) -> bytes:
        """So many bytes, which follow a line. Raises SimulatorError."""
        deadline = time.monotonic() + seconds
        while len(self._heard) < count:
            self._heard += self._piece(deadline, f"no picture within {seconds:g} s", "")
        data, self._heard = self._heard[:count], self._heard[count:]
        return data

    def _line(self, seconds: float, late: str, ended: str) -> str:
        """The worker's next line."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._heard:
            self._heard += self._piece(deadline, f"{late} {seconds:g} s", ended)
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _piece(self, deadline: float, late: str, ended: str) -> bytes:
        if not is_readable(self.link, max(0.0, deadline - time.monotonic())):
            raise SimulatorError(f"{late}; {self.last_words()}")
        piece = self.link.recv(2**16)
        if not piece:
            raise SimulatorError(f"{ended}; {self.last_words()}" if ended else f"its worker exited: {self.reason()}")
        return piece

    def last_words(self) -> str:
        """The end of the worker's output, for a message."""
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), _TAIL, max(0, size - _TAIL)).decode(errors="replace").strip()
        return f"its output ends with:\n{text}" if text else "it printed nothing"

    def reason(self) -> str:
        """Why the worker exited: the last line of its output, which names an exception, and how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # it has closed its end of the link, or has answered wrongly
        code = self._process.returncode
        if code is None:
            return "it did not follow the protocol"
        end = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        lines = self._whole_output().splitlines()
        return f"{lines[-1][:_LONGEST_REASON]} ({end})" if lines else end

    def keep_output(self) -> str:
        """Write the whole output to a temporary file; returns its path, or "" if there is no output."""
        text = self._whole_output()
        if not text:
            return ""
        descriptor, path = tempfile.mkstemp(prefix="gpgrad-worker-", suffix=".txt")
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        return path

    def _whole_output(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace").strip()

    def forget_output(self) -> None:
        """Truncate the output if it is long."""
        if os.fstat(self._output.fileno()).st_size > _LONGEST_OUTPUT:
            os.ftruncate(self._output.fileno(), 0)

    def ask_to_close(self) -> None:
        """Ask the worker to close its simulator and exit."""
        with contextlib.suppress(OSError):
            self.link.send(worker.CLOSE)

    def kill(self, patience: float = 0.0) -> None:
        """Kill the process group, after `patience` seconds in which the worker may exit. Idempotent."""
        if self._output.closed:
            return
        if patience:
            is_readable(self.link, patience)  # its end of the link closes when it exits
        # Before waiting for the worker, since its process id cannot be reused until then. Its children may outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self.link.close()
        self._output.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Guardian:
    """The process that kills workers if this process dies, see `gpgrad.envs.external.guardian`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpgrad.envs.external.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=environment(),
        )

    def note(self, worker: Process, alive: bool) -> None:
        """Report that a worker started or ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed; idle workers still notice our exit
            self._process.stdin.write(f"+{worker.pid} {worker.folder}\n" if alive else f"-{worker.pid}\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Stop the guardian."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


@functools.cache
def describe(recipe: str, seconds: float) -> Sizes:
    """The sizes of a recipe's simulator, from a worker that builds it and exits. Raises as `Process.hear_sizes`."""
    process = Process(recipe)
    try:
        return process.hear_sizes(seconds)
    finally:
        process.kill(PATIENCE)


@functools.cache
def examined(recipe: str, seconds: float) -> Examined:
    """The findings of a worker in a few episodes, see `examination`. Raises as `Process.hear_sizes`.

    seconds: timeout for building the simulator, and for the episodes. A run survives single faults, so a finding counts
    only if a second worker finds one too.
    """
    result = _examine(recipe, seconds)
    return _examine(recipe, seconds) if result.findings else result


def _examine(recipe: str, seconds: float) -> Examined:
    process = Process(recipe, worker.EXAMINE)
    try:
        process.hear_sizes(seconds)
        return process.hear_findings(seconds)
    except SimulatorError as error:
        return Examined([" ".join(str(error).split())])
    finally:
        process.kill(PATIENCE)


def program(python: str | None) -> list[str]:
    """The command of a worker, in this or another interpreter."""
    if python is None:
        return [sys.executable, "-m", "gpgrad.envs.external.worker"]
    return [os.path.expanduser(python), os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")]


def environment(python: str | None = None) -> dict[str, str]:
    """Environment variables of a worker: this process's modules, one thread, no devices, windows or sound.

    Another interpreter gets the search path without this interpreter's own library and packages.
    """
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    quiet = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    hidden = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    found = children.environment(**alone, **quiet, **hidden)
    if python is not None:
        entries = found["PYTHONPATH"].split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(entry for entry in entries if not is_of_interpreter(entry))
    return found


def is_of_interpreter(entry: str) -> bool:
    """Whether an entry of the search path belongs to an interpreter: its library, or a folder of installed packages."""
    library = sysconfig.get_path("stdlib")
    zipped = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    packages = {"site-packages", "dist-packages", zipped}
    return f"{entry}/".startswith(f"{library}/") or not packages.isdisjoint(entry.split(os.sep))


def is_readable(link: socket.socket, seconds: float) -> bool:
    """Whether data or the end of the stream can be read within some seconds."""
    poll = select.poll()
    poll.register(link, select.POLLIN)
    return bool(poll.poll(1000 * seconds))
