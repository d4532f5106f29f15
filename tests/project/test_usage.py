"""The summary prints what a test session costs, and a large process drops its compiled programs."""

from __future__ import annotations

import jax

from tests.helpers import usage


def test_dropped_programs_are_compiled_again():
    traced = []
    double = jax.jit(lambda x: traced.append(x) or 2 * x)
    for _ in range(2):
        double(1.0)
    assert len(traced) == 1
    usage.drop_programs()
    assert double(1.0) == 2
    assert len(traced) == 2


def test_costs_of_several_processes_are_one_sentence():
    costs = [{"seconds": 60.0, "largest": 900.0}, {"seconds": 30.0, "largest": 2400.0}]
    assert usage.line(costs) == "1.5 minutes of processor time; the largest test process had 2.4 GB"
    own = usage.spent()
    assert own["seconds"] > 0
    assert own["largest"] > 0.9 * usage.memory()
