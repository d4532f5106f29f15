"""Shared by all tests: recorded oracles, small worlds with known values, tiny configurations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "disabled")

@pytest.fixture(scope="session")
def oracles() -> dict:
    """Inputs and expected outputs computed by an independent NumPy program in float64."""
    return json.loads((Path(__file__).parent / "data" / "oracles.json").read_text())
