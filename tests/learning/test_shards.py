"""A seed split over devices: the numbers of one device, and what is refused. The CPU is divided in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gpgrad.errors import SettingError
from gpgrad.learning import devices
from gpgrad.training import seed_layout, train
from tests.helpers import sharded_runs
from tests.helpers.tiny_runs import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """What each check in the other process said; nothing where it passed."""
    file = tmp_path_factory.mktemp("sharded") / "failures.json"
    command = [sys.executable, "-m", "tests.helpers.sharded_runs", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.mark.parametrize("check", list(sharded_runs.CHECKS))
def test_two_devices(failures, check):
    assert not failures[check], failures[check]


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)


@pytest.mark.parametrize(
    ("changes", "by", "count"),
    [
        ({"seeds": 4}, "seeds", 4),
        ({"seeds": 1}, "seeds", 1),
        ({"seeds": 1, "devices": 4}, "batch", 4),
        ({"seeds": 3, "devices": 2}, "batch", 2),
        ({"seeds": 4, "devices": 2}, "seeds", 2),
        ({"seeds": 4, "devices": 2, "shard": "batch"}, "batch", 2),
        ({"seeds": 1, "shard": "batch"}, "batch", 4),
        ({"seeds": 1, "devices": 1, "shard": "batch"}, "seeds", 1),
    ],
)
def test_what_devices_share(four, changes, by, count):
    found = devices.split(tiny(**changes))
    assert (found.by, found.count) == (by, count)
    assert found.why


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shard": "batch", "devices": 3}, "learner.batch_episodes must be a multiple of 3, such as 3 or 6 .got 4"),
        ({"shard": "batch", "replay__capacity": 18}, "replay.capacity must be a multiple of 4, such as 16 or 20 .got"),
        (
            {"shard": "batch", "rollout__worlds": 8, "learner__target_every_episodes": 8},
            "replay.capacity must be at least 32, rollout.worlds on each device .got 16",
        ),
        ({"shard": "seeds", "devices": 2}, "1 seed cannot be spread evenly over 2 devices; --seeds 2 would do"),
        (
            {"shard": "seeds", "seeds": 3, "devices": 2},
            "--seeds 2 or --seeds 4 would do, or --devices 1 or --shard batch",
        ),
        ({"devices": 5}, "devices must be at most 4, the number that this machine has"),
    ],
)
def test_what_cannot_be_shared(four, monkeypatch, changes, sentence):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(SettingError, match=sentence):
        devices.split(tiny(**{"seeds": 1, **changes}))


def test_shared_batches_need_one_program(four):
    with pytest.raises(SettingError, match="seeds_mode must be vmap, since devices share"):
        train.decide(tiny(shard="batch", seeds=2, seeds_mode="process"), None, False)
    layout = train.decide(tiny(shard="batch", seeds=2), None, False)
    assert (layout.mode, layout.alive) == ("vmap", 2)


def test_the_setting_changes_no_number():
    from gpgrad.config import fingerprint, identity

    one, other = tiny(), tiny(shard="batch", devices=2)
    assert (identity(one), fingerprint(one)) == (identity(other), fingerprint(other))


def test_the_cpu_is_divided_only_where_nobody_else_did(monkeypatch):
    updates = []
    monkeypatch.setattr(jax.config, "update", lambda *setting: updates.append(setting))
    monkeypatch.setattr(seed_layout, "cores", lambda: [0, 1])
    monkeypatch.setitem(os.environ, "XLA_FLAGS", "")
    for wanted in (None, 1, 2, 99):
        seed_layout.divide_cpu(tiny(devices=wanted, seeds=99))
    assert updates == [("jax_num_cpu_devices", 2)] * 2
    monkeypatch.setitem(os.environ, "XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    seed_layout.divide_cpu(tiny(devices=2))
    assert len(updates) == 2
