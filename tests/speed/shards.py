"""One seed on the whole CPU beside the same seed split over devices, in alternation, on an otherwise idle machine:

python -m tests.speed.shards --algo gradps --devices 2 --rounds 12

Prints milliseconds of an iteration (an episode collected, with its updates) of the default program, of the split one,
and of the split one whose devices have one thread each, and the ratios of the default to these, with the range of the
rounds. The default of `devices` stays as it is unless a ratio is at least 1.3.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def serve(arguments: argparse.Namespace, n_devices: int) -> None:
    """Build a program and, for every line read, train some iterations and answer with their seconds."""
    import jax
    import jax.numpy as jnp

    from gpgrad import config
    from gpgrad.learning.initial import start_clock
    from gpgrad.learning.program import make_program
    from gpgrad.training import seed_layout

    shard = {"devices": n_devices, "shard": "batch"} if n_devices > 1 else {}
    named = {"preset": arguments.preset, "rollout.worlds": arguments.worlds, "replay.capacity": 512, **shard}
    settings = config.load(arguments.env, arguments.algo, named)
    seed_layout.divide_cpu(settings)
    program = make_program(settings)
    clock, states = start_clock(), program.init(jnp.zeros(1, jnp.int32))
    clock, states = program.chunk(clock, states, -(-settings.learner.batch_episodes // arguments.worlds) + 1)
    jax.block_until_ready(states.env_steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        clock, states = program.chunk(clock, states, arguments.iterations)
        jax.block_until_ready(states.env_steps)
        print(time.perf_counter() - began, flush=True)


def start(arguments: list[str], n_devices: int, flags: str = "") -> subprocess.Popen[str]:
    """A process that serves."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.speed.shards", *arguments, "--serve", str(n_devices)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen[str]) -> float:
    """Seconds of its next iterations."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="pp_small")
    parser.add_argument("--algo", default="qmix")
    parser.add_argument("--preset", default="gradps_paper")
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--serve", type=int)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments, arguments.serve)
    given, n = sys.argv[1:], arguments.devices
    served = {
        "default": start(given, 1),
        f"{n} devices": start(given, n),
        f"{n} devices, one thread each": start(given, n, ONE_THREAD),
    }
    for name, process in served.items():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"{name} did not start"
    seconds: dict[str, list[float]] = {name: [] for name in served}
    for _ in range(arguments.rounds):
        for name, process in served.items():
            seconds[name].append(ask(process))
    for process in served.values():
        process.communicate()
    base = np.asarray(seconds["default"])
    for name, values in seconds.items():
        ratios = base / np.asarray(values)
        each = 1e3 * np.median(values) / arguments.iterations
        print(f"{name}: {each:.1f} ms, {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
    return None


if __name__ == "__main__":
    main()
