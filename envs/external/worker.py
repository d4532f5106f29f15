"""A worker with one simulator, without jax: `python -m gpgrad.envs.external.worker LINK MEMORY LANE LANES RECIPE`.

LINK is the descriptor of a socket, MEMORY that of the shared block. The worker sends its sizes as one line. It then
replies to each command byte with one byte, once the result is in the block. On an error it prints a traceback and
exits: a closed socket and a timeout are faults for the trainer. If the trainer closes its end, the worker exits.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import tempfile
import time
import traceback

import numpy as np

from gpgrad.envs.external.examination import described, examine
from gpgrad.envs.external.memory import Block
from gpgrad.envs.external.protocol import Missing, Outcome, Simulator, build

RESET, STEP, CLOSE, FRAME, REPLAY, DONE = b"r", b"s", b"c", b"f", b"p", b"k"
ONLY_SIZES, EXAMINE = -1, -2  # values of MEMORY: send the sizes and exit; the same, with the findings of a check


def main(arguments: list[str]) -> int:
    """Build the simulator, send its sizes, serve; returns 1 if it cannot be built."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=int(arguments[0]))
    memory, lane, lanes = (int(number) for number in arguments[1:4])
    try:
        simulator = build(arguments[4])
        sizes, text = simulator.sizes, simulator.sizes.dumps()
    except Missing as missing:
        return refuse(link, "missing", " ".join(str(missing).split()))
    except Exception as error:
        traceback.print_exc()
        return refuse(link, "broken", described(error))
    link.sendall(text.encode() + b"\n")
    if memory == EXAMINE:
        findings = examine(simulator)
        link.sendall(json.dumps(findings).encode() + b"\n")
    elif memory != ONLY_SIZES:
        serve(link, simulator, Block(sizes, lanes, memory), lane)
    simulator.close()
    return 0


def refuse(link: socket.socket, why: str, sentence: str) -> int:
    """Send, instead of sizes, the reason why there is no simulator."""
    link.sendall(json.dumps({why: sentence}).encode() + b"\n")
    return 1


def serve(link: socket.socket, simulator: Simulator, block: Block, lane: int) -> None:
    """Reply to commands until CLOSE or the end of the stream."""
    while (command := link.recv(1)) not in (b"", CLOSE):
        began = time.perf_counter()
        if command in (FRAME, REPLAY):
            link.sendall(picture(simulator) if command == FRAME else replay(simulator))
            continue
        if command == RESET:
            outcome = Outcome(simulator.reset(int(block.seed[lane])))
        else:
            outcome = simulator.step(block.actions[lane].tolist())
        block.seconds[lane] = time.perf_counter() - began
        block.write(lane, outcome)
        link.send(DONE)


def picture(simulator: Simulator) -> bytes:
    """The simulator's `frame()`: a line with height and width, and RGB bytes; both sizes are 0 if there is none."""
    draw = getattr(simulator, "frame", None)
    frame = np.asarray(draw()) if draw else np.zeros(0)
    if frame.ndim != 3 or frame.shape[2] not in (3, 4):  # also None, and the lists of other render modes
        return b"0 0\n"
    return b"%d %d\n" % frame.shape[:2] + np.ascontiguousarray(frame[..., :3], np.uint8).tobytes()


def replay(simulator: Simulator) -> bytes:
    """Let the simulator save its own replay: a line with the file's path, empty if it has none."""
    save = getattr(simulator, "save_replay", None)
    return (save(tempfile.gettempdir()) if save else "").encode() + b"\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
