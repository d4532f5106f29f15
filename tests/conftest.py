"""Shared by all tests: XLA's flags, the compilation cache, recorded oracles."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import pytest

from tests.helpers import flags, usage

ROOT = Path(__file__).parents[1]
os.environ["WANDB_MODE"] = "disabled"
# Tracing makes many objects that live: to look through them all as often as Python does costs a twentieth of the time.
gc.set_threshold(20_000, 10, 10)
# The matrices here are small: threads of BLAS and OpenMP would wait for each other, at twenty times the processor time.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Tests compile far more than they run: no optimisation of machine code, fusions by the emitters that compile fastest,
# one module of code at a time. XLA's own passes are left alone. Together two fifths of the time of the first alone.
FASTEST = ("backend_optimization_level=0", "cpu_use_fusion_emitters=false", "cpu_parallel_codegen_split_count=1")
# A worker of pytest-xdist has the flags of the process that started it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    try:
        os.environ["XLA_FLAGS"] = flags.choose(
            [f"--xla_{flag}" for flag in FASTEST],
            os.environ.get("XLA_FLAGS"),
            flags.installed(ROOT / ".cache" / "xla_flags.json"),
        )
    except flags.FlagError as error:
        pytest.exit(str(error), returncode=4)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


@pytest.fixture(scope="session")
def oracles() -> dict:
    """Inputs and expected outputs computed by an independent NumPy program in float64."""
    return json.loads((Path(__file__).parent / "data" / "oracles.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """A large process drops its compiled programs before the next module."""
    yield
    if usage.memory() > usage.ROOM:
        usage.drop_programs()


COSTS: list[dict[str, float]] = []  # of pytest-xdist's workers


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cost"] = usage.spent()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    COSTS.append(getattr(node, "workeroutput", {}).get("cost", {"seconds": 0.0, "largest": 0.0}))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(usage.line(COSTS or [usage.spent()]))
