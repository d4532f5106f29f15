"""Owns one simulator, without jax: `python -m gpgrad.envs.external.worker LINK MEMORY LANE LANES RECIPE`.

LINK is the descriptor of a socket, MEMORY that of the shared block. The worker says its sizes in one line, then
answers each command, a byte, by a byte once the answer is in the block. What goes wrong it prints, and ends: to the
trainer a closed socket is a fault, and so is silence. A closed socket on the other side ends the worker.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
import traceback

from gpgrad.envs.external.examination import described, examine
from gpgrad.envs.external.memory import Block
from gpgrad.envs.external.protocol import Missing, Outcome, Simulator, build

RESET, STEP, CLOSE, DONE = b"r", b"s", b"c", b"k"
ONLY_SIZES, EXAMINE = -1, -2  # for MEMORY: say the sizes and end; and between these what is wrong with the simulator


def main(arguments: list[str]) -> int:
    """Build, say the sizes, serve; 1 where the simulator cannot be built for want of something."""
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
    """Say in place of sizes why there is no simulator."""
    link.sendall(json.dumps({why: sentence}).encode() + b"\n")
    return 1


def serve(link: socket.socket, simulator: Simulator, block: Block, lane: int) -> None:
    """Answer until told to close, or until nobody listens."""
    while (command := link.recv(1)) not in (b"", CLOSE):
        began = time.perf_counter()
        if command == RESET:
            outcome = Outcome(simulator.reset(int(block.seed[lane])))
        else:
            outcome = simulator.step(block.actions[lane].tolist())
        block.seconds[lane] = time.perf_counter() - began
        block.write(lane, outcome)
        link.send(DONE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
