"""Seeds side by side, one after another, as processes, over devices: the same run each time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from gpgrad.__main__ import main
from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning.program import make_program
from gpgrad.training import checkpoint, loop, recorder, seed_layout, train
from gpgrad.training.memory_plan import Plan
from tests.helpers.tiny_runs import options, tiny

ROOT = Path(__file__).parents[2]
GIB = 2**30
RUN = {
    "algo": "vdn",
    "env": "two_step",
    "seeds": 2,
    "seed": 3,
    "t_max": 80,
    "evaluation__every_episodes": 20,
    "rollout__worlds": 1,
    "learner__updates_per_episode": 1,
}
silent = lambda text: None


def needs(work: int = 200 * 2**20, free: int = 100 * GIB) -> Plan:
    return Plan(episode=1, replay=GIB, state=GIB, work=work, free=free)


@pytest.mark.parametrize(
    ("seeds", "asked", "plan", "machine", "expected"),
    [
        (1, "auto", needs(), ("cpu", 1, 2), ("vmap", 1)),
        (8, "auto", needs(), ("cpu", 1, 2), ("process", 2)),
        (8, "auto", needs(), ("cpu", 1, 16), ("process", 8)),
        (8, "auto", needs(free=7 * GIB), ("cpu", 1, 16), ("process", 3)),
        (8, "auto", needs(free=3 * GIB), ("cpu", 1, 16), ("sequential", 1)),
        (8, "auto", needs(), ("cpu", 1, 1), ("vmap", 8)),
        (8, "auto", needs(work=2**20), ("cpu", 1, 2), ("vmap", 8)),
        (300, "auto", needs(work=2**20), ("cpu", 1, 2), ("process", 2)),
        (8, "auto", needs(), ("cpu", 4, 2), ("vmap", 8)),
        (8, "auto", needs(), ("gpu", 1, 16), ("vmap", 8)),
        (8, "auto", needs(free=3 * GIB), ("gpu", 1, 16), ("sequential", 1)),
        (8, "vmap", needs(), ("cpu", 1, 2), ("vmap", 8)),
        (8, "sequential", needs(), ("gpu", 1, 2), ("sequential", 1)),
        (3, "process", needs(work=1), ("cpu", 1, 2), ("process", 2)),
    ],
)
def test_layouts(seeds, asked, plan, machine, expected):
    layout = seed_layout.decide(tiny(seeds=seeds, seeds_mode=asked, t_max=100), plan, *machine)
    assert (layout.mode, layout.alive) == expected


def test_processes_are_refused_where_they_would_fight_for_a_device():
    with pytest.raises(SettingError, match="must be vmap or sequential on a gpu"):
        seed_layout.decide(tiny(seeds=2, seeds_mode="process"), needs(), "gpu", 1, 8)


def run(folder: Path, mode: str, say=silent, **changes) -> train.Result:
    return train.run(tiny(log__dir=str(folder), log__name=mode, seeds_mode=mode, **{**RUN, **changes}), say=say)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The same seeds in each mode."""
    folder = tmp_path_factory.mktemp("modes")
    return {mode: run(folder, mode) for mode in ("vmap", "sequential", "process")}


def test_seeds_apart_are_extended_each_in_its_folder(results, tmp_path):
    folder = run(tmp_path, "sequential", t_max=40, checkpoint__every_minutes=1e-9).run_dir
    longer = train.extend(folder, 80, {"name": "longer"}, say=silent)
    whole = results["sequential"]
    assert (longer.run_dir / "metrics.jsonl").read_bytes() == (whole.run_dir / "metrics.jsonl").read_bytes()
    assert longer.final == whole.final


def test_every_mode_leaves_the_same_files(results):
    for result in results.values():
        assert sorted(row["seed"] for row in result.final) == [3, 4]
        assert (result.run_dir / "team").is_dir()
        places = [(row["iterations"], row["seed"]) for row in result.metrics]
        assert places == [(i, s) for i in (0, 20, 40) for s in (3, 4)]
        timing = [json.loads(line) for line in (result.run_dir / "timing.jsonl").read_text().splitlines()]
        assert len(timing) >= 3


def test_tests_and_checkpoints_change_no_number(results, tmp_path):
    """Twice as many tests and a checkpoint after every chunk: the same parameters."""
    often = run(tmp_path, "vmap", evaluation__every_episodes=10, checkpoint__every_minutes=1e-9)
    assert checkpoint.found(often.run_dir)
    assert [row["iterations"] for row in often.metrics[::2]] == [0, 10, 20, 30, 40]
    jax.tree.map(np.testing.assert_array_equal, often.params, results["vmap"].params)


@pytest.mark.parametrize("mode", ["sequential", "process"])
def test_every_mode_gives_the_same_start(results, mode):
    """Before anything was learned rows agree; afterwards only up to the last bits, which learning magnifies."""
    one, other = results["vmap"], results[mode]
    for a, b in zip(one.metrics[:2], other.metrics[:2], strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            if value is None:
                assert b[name] is None, name
            else:
                np.testing.assert_allclose(b[name], value, rtol=1e-5, err_msg=name)
    assert [row["env_steps"] for row in one.metrics[:2]] == [row["env_steps"] for row in other.metrics[:2]]


def test_a_split_run_can_be_tested(results, tmp_path):
    words = ["--episodes", "5", "--stream", "0", "--json", str(tmp_path / "rows.json")]
    assert main(["eval", str(results["process"].run_dir), *words]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["test_return"] for row in rows] == [row["test_return"] for row in results["process"].final]


def test_a_finished_split_run_is_not_repeated(results):
    with pytest.raises(SettingError, match="is finished"):
        train.resume(results["process"].run_dir)


def test_sequential_goes_on_where_it_was(results, tmp_path, monkeypatch):
    finish, calls = loop.finish, []

    def once(settings, program, folder, say):
        calls.append(settings.seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finish(settings, program, folder, say)

    monkeypatch.setattr(loop, "finish", once)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "sequential")
    resumed = train.resume(tmp_path / "sequential", say=silent)
    assert calls == [3, 4, 4]
    assert resumed.metrics == results["sequential"].metrics
    assert resumed.final == results["sequential"].final
    jax.tree.map(np.testing.assert_array_equal, resumed.params, results["sequential"].params)


def command(settings: Config) -> list[str]:
    words = options(settings)
    return [sys.executable, "-m", "gpgrad", "train", "--env", settings.env.name, "--algo", settings.algo, *words]


def wait_for(condition, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(len(seed_layout.cores()) < 2, reason="one core trains one seed after the other")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_processes_end_with_their_run(tmp_path, number, request):
    """Told to end, or killed without a word: every seed saves, no process stays."""
    forever = {**RUN, "t_max": 10**8, "checkpoint__every_minutes": 1e-9}
    settings = tiny(log__dir=str(tmp_path), log__name="run", seeds_mode="process", **forever)
    process = subprocess.Popen(
        command(settings), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    request.addfinalizer(process.kill)
    parts = [tmp_path / "run" / "seeds" / str(seed) for seed in (3, 4)]
    wait_for(lambda: process.poll() is not None or all(checkpoint.found(part) for part in parts))
    assert process.poll() is None
    listed = subprocess.run(["pgrep", "-f", str(tmp_path / "run" / "seeds")], capture_output=True, text=True).stdout
    assert len(listed.split()) == 2
    process.send_signal(number)
    _, complaint = process.communicate(timeout=120)
    for child in listed.split():
        wait_for(lambda child=child: not alive(int(child)))
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert f"--resume {tmp_path / 'run'}" in complaint
    assert all(checkpoint.is_whole(checkpoint.found(part)[0]) for part in parts)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_failing_seed_leaves_the_others_alone(tmp_path):
    settings = tiny(log__dir=str(tmp_path), log__name="run", seeds_mode="process", **RUN)
    folder = recorder.create_folder(settings)
    recorder.describe_run(settings, folder)
    parts = seed_layout.prepare(settings, folder)
    (parts[3] / "config.yaml").write_text("nonsense")
    heard: list[str] = []
    with pytest.raises(ChildProcessError, match=r"1 of 2 seeds .* failed: seed 3: .*config.yaml"):
        train.resume(folder, say=heard.append)
    assert not (folder / "final.jsonl").read_text().count('"seed": 3')
    assert (folder / "final.jsonl").read_text().count('"seed": 4') == 1
    assert any(line.startswith("seed 4: ") for line in heard)


SHARDED = """
import jax, numpy as np, sys
sys.path.insert(0, ".")
from tests.helpers.tiny_runs import tiny, start
from gpgrad.learning.program import actors
seeds = list(range(8))
built, clock, states = start(tiny(seeds=8), seeds)
text = built.chunk.lower(clock, states, 6).compile().as_text()
early = built.chunk(clock, states, 6)[1]
rows = built.test(actors(early), 0)
learned = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(early.params))}
n = len(early.env_steps.sharding.device_set)
worlds = {"steps": early.env_steps, "replay": early.replay.actions[:, :4], "returns": rows["returns"]}
np.savez(sys.argv[1], n=n, **worlds, **learned)
open(sys.argv[1] + ".txt", "w").write(text)
"""


@pytest.mark.slow
def test_seeds_over_four_devices(tmp_path):
    """Eight seeds over four simulated devices: worlds agree exactly, three updates to 1e-5, nothing is communicated."""
    found = {}
    for n in (1, 4):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n}"
        place = tmp_path / f"{n}.npz"
        script = [sys.executable, "-c", SHARDED, str(place)]
        subprocess.run(script, cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, check=True)
        found[n] = dict(np.load(place))
    text = (tmp_path / "4.npz.txt").read_text()
    assert not re.search(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", text)
    assert (int(found[1].pop("n")), int(found[4].pop("n"))) == (1, 4)
    assert "s8[8,16,7,3,2]" in (tmp_path / "1.npz.txt").read_text()
    assert "s8[2,16,7,3,2]" in text, "a device holds the replay of its own seeds alone"
    for name in ("steps", "replay"):
        np.testing.assert_array_equal(found[1].pop(name), found[4].pop(name))
    for name in found[1]:
        np.testing.assert_allclose(found[1][name], found[4][name], rtol=1e-5, atol=1e-5)


UNEVEN = """
import sys
sys.path.insert(0, ".")
from gpgrad.__main__ import main
sys.exit(main(["train", "--env", "matrix_gpvd", "--seeds", "6", "--seeds-mode", "vmap", "--log.wandb", "disabled"]))
"""


def test_seeds_that_do_not_divide_are_refused(tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    where = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", UNEVEN], cwd=ROOT, env=where, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        "6 seeds cannot be spread evenly over 4 devices; --seeds 4 or --seeds 8 would do, or --devices 1" in done.stderr
    )


def test_more_devices_than_there_are():
    with pytest.raises(SettingError, match="devices must be at most"):
        make_program(tiny(seeds=99, devices=99))
