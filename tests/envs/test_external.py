"""Workers of external environments and their supervision: episodes, faults, shutdown, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from gpgrad.envs.external.guardian import watch
from gpgrad.envs.external.pool import Care, Pool
from gpgrad.envs.external.process import SimulatorError, describe
from gpgrad.envs.external.protocol import Recipe, Sizes, loads
from gpgrad.errors import SettingError
from tests.helpers.toy_starcraft import FAULTS, LIMIT, Once, SkirmishSimulator, order

ROOT = Path(__file__).parents[2]
QUICK = Care(step_seconds=20.0, reset_seconds=60.0, failures=50, pause_seconds=0.0)
SIZES = SkirmishSimulator().sizes


def recipe(**settings) -> str:
    return Recipe("tests.helpers.toy_starcraft:SkirmishSimulator", settings).dumps()


@pytest.fixture
def pools():
    """Makes pools, and closes them."""
    made: list[Pool] = []

    def make(lanes: int, care: Care = QUICK, **settings) -> Pool:
        made.append(Pool(recipe(**settings), SIZES, lanes, care))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def policy(avail: np.ndarray, t: int) -> np.ndarray:
    """Some available action, another one at another time: int32 [..., A]."""
    ranks = avail.cumsum(-1) * avail
    return np.argmax(ranks == 1 + t % ranks.max(-1, keepdims=True), -1).astype(np.int32)


def play(pool: Pool, seeds: list[int]) -> list[list[tuple]]:
    """An episode a lane: what was seen and earned at each step."""
    lanes = list(range(len(seeds)))
    assert pool.reset(lanes, seeds) == []
    rows: list[list[tuple]] = [[(pool.obs[i].tolist(), pool.state[i].tolist())] for i in lanes]
    running, t = lanes, 0
    while running:
        assert pool.step(running, policy(pool.avail, t)) == []
        for i in running:
            flags = (float(pool.reward[i]), bool(pool.terminated[i]), bool(pool.truncated[i]), pool.info[i].tolist())
            rows[i].append((pool.obs[i].tolist(), pool.state[i].tolist(), *flags))
        running = [i for i in running if not (pool.terminated[i] or pool.truncated[i])]
        t += 1
    return rows


def expected(seed: int) -> list[tuple]:
    """The same episode without any worker."""
    simulator = SkirmishSimulator()
    seen = simulator.reset(seed)
    rows: list[tuple] = [(np.array(seen.obs).tolist(), seen.state.tolist())]
    for t in range(LIMIT):
        out = simulator.step(policy(np.array(seen.avail, bool), t).tolist())
        seen = out.seen
        info = [float(out.info.get(name, 0)) for name in SIZES.info]
        flags = (out.reward, out.terminated, out.truncated, info)
        rows.append((np.array(seen.obs).tolist(), seen.state.tolist(), *flags))
        if out.terminated or out.truncated:
            break
    return rows


def processes() -> set[int]:
    """Workers and guardians that this process started and that still run."""
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE}


def test_lanes_play_what_the_simulator_plays_and_nothing_is_left(pools):
    before, memory = processes(), set(Path("/dev/shm").iterdir())
    pool = pools(3)
    assert processes() == before, "workers start when they are needed"
    for seeds in ([5, 6, 2**63 + 7], [9, 5, 6]):
        assert play(pool, seeds) == [expected(seed) for seed in seeds]
    assert len({str(expected(seed)) for seed in (5, 6, 9)}) > 1
    report = pool.report()
    assert len(report["worker_mib"]) == 3
    assert min(report["worker_mib"]) > 5
    assert 0 < report["simulator_seconds"] < 60
    assert report["simulator_steps"] == sum(len(expected(seed)) - 1 for seed in (5, 6, 2**63 + 7, 9, 5, 6))
    assert len(processes() - before) == 4  # with the guardian
    pool.close()
    pool.close()
    assert processes() == before
    assert set(Path("/dev/shm").iterdir()) <= memory


def test_every_fault_is_noticed_and_survived(pools, tmp_path):
    """Each lane that fails is told, the others go on, the lane plays the same episode afterwards."""
    pool = pools(2, QUICK._replace(step_seconds=3.0), faults=str(tmp_path))
    play(pool, [1, 2])
    reasons = []
    for kind in FAULTS:
        order(tmp_path, [kind])
        failed = pool.reset([0, 1], [3, 4])
        while not failed:
            failed = pool.step([0, 1], policy(pool.avail, 0))
        assert len(failed) == 1, kind
        assert play(pool, [3, 4]) == [expected(3), expected(4)], kind
        reasons += pool.news()
    assert len(reasons) == len(FAULTS)
    assert "no answer to a step within 3 s" in reasons[FAULTS.index("hang")]
    assert "during a step: ValueError: the observation has values that are not" in reasons[FAULTS.index("nan")]
    assert "during a step: RuntimeError: a crash on demand (exit code 1)" in reasons[FAULTS.index("crash")]
    assert "during a step: exit on demand (exit code 3)" in reasons[FAULTS.index("exit")]
    assert "during a reset: RuntimeError: a crash on demand" in reasons[FAULTS.index("reset")]
    report = pool.report()
    assert report["restarts"] == len(FAULTS)
    assert report["discarded_episodes"] == len(FAULTS) - 1  # the one that failed in its reset had not begun
    assert report["discarded_steps"] == len(FAULTS) - 1  # all fail in their second step


def test_too_many_failures_in_a_row_end_with_the_last_words(pools, tmp_path):
    pool = pools(1, QUICK._replace(failures=2), faults=str(tmp_path))
    order(tmp_path, ["crash"] * 4)

    def play() -> None:
        for _ in range(9):
            pool.reset([0], [1])
            while not pool.step([0], policy(pool.avail, 0)):
                pass

    first = r"lane 0 failed 3 times in a row, the last time: its worker exited during a step: RuntimeError: a crash"
    with pytest.raises(SimulatorError, match=first) as caught:
        play()
    assert len(list(tmp_path.iterdir())) == 1
    output = Path(str(caught.value).split("all of its output is in ")[1].rstrip(")"))
    assert output.read_text().startswith("crash on demand\nTraceback")
    output.unlink()


def test_a_simulator_that_can_be_reset_once_ends_with_its_reason():
    """Its workers each play an episode, so that no episode fails again and again."""
    pool = Pool(Recipe("tests.helpers.toy_starcraft:Once", {}).dumps(), Once().sizes, 1, QUICK._replace(failures=1))

    def play() -> None:
        for _ in range(9):
            if not pool.reset([0], [1]):
                pool.step([0], np.zeros((1, 1), np.int32))

    with pytest.raises(SimulatorError, match=r"lane 0 failed 2 times .* during a reset: RuntimeError: no second reset"):
        play()
    pool.close()


def test_temporary_files_go_with_their_worker(pools):
    """As a killed StarCraft II leaves its folders behind."""
    before = set(Path(tempfile.gettempdir()).glob("gpgrad-worker-*"))
    pool = pools(2)
    pool.reset([0, 1], [1, 2])
    folders = set(Path(tempfile.gettempdir()).glob("gpgrad-worker-*")) - before
    mine = {Path(lane.process.folder) for lane in pool._lanes}
    assert mine <= folders
    for folder in mine:
        (folder / "StarCraft").mkdir()
    assert f"TMPDIR={pool._lanes[0].process.folder}" in psutil_variables(pool._lanes[0].process.pid)
    pool._end(pool._lanes[0])
    assert [folder.exists() for folder in sorted(mine, key=str)].count(True) == 1
    pool.close()
    assert not any(folder.exists() for folder in mine)


def psutil_variables(pid: int) -> list[str]:
    return [f"{name}={value}" for name, value in psutil.Process(pid).environ().items()]


def test_seeds_change_only_where_half_of_the_failures_did_not_help(pools):
    pool = pools(1, QUICK._replace(failures=4))
    used = []
    pool._ask = lambda command, lanes, seconds, what: used.append(int(pool._block.seed[0])) or []
    pool._start, pool._await_sizes = lambda lane: None, lambda lane: True
    for failures in range(5):
        pool._lanes[0].failures = failures
        pool.reset([0], [100])
    assert used[::2] == used[1::2] == [100, 100, 100, 103, 104]


def test_workers_are_replaced_after_their_episodes(pools):
    pool = pools(1, QUICK._replace(recycle_episodes=2))
    pids = []
    for _ in range(5):
        play(pool, [1])
        pids.append(pool._lanes[0].process.pid)
    assert [pids.index(pid) for pid in pids] == [0, 0, 2, 2, 4]
    assert pool.report()["recycled"] == 2
    assert pool.report()["restarts"] == 0


def test_an_interrupted_call_leaves_no_stale_answer(pools):
    pool = pools(1)
    assert pool.reset([0], [1]) == []
    pool._lanes[0].asked = True  # as if Ctrl-C had come between question and answer
    assert play(pool, [2]) == [expected(2)]


def test_lanes_must_agree_on_sizes(pools):
    pool = Pool(recipe(), SIZES._replace(episode_limit=7), 1, QUICK._replace(failures=0))
    with pytest.raises(SimulatorError, match="its sizes must be"):
        pool.reset([0], [1])
    pool.close()


def test_build_errors_are_reported():
    with pytest.raises(SimulatorError, match=r"could not be built: TypeError: 'list' object.* \(.*toy_starcraft.py"):
        describe(Recipe("tests.helpers.toy_starcraft:Nothing", {"agents": []}).dumps(), 60.0)
    with pytest.raises(SettingError, match="no_such_package, which is not installed"):
        describe(
            Recipe(
                "gpgrad.envs.external.adapters.gymnasium_envs:GymSimulator", {"id": "no_such_package:World-v0"}
            ).dumps(),
            60.0,
        )


def test_sizes_survive_as_text():
    sizes = Sizes(2, 3, 4, 5, 6, obs_sizes=(4, 2), info=("won",), versions={"a": "1"})
    assert loads(sizes.dumps()) == sizes
    numpy = Sizes(np.int64(2), 3, 4, 5, np.int32(6), obs_sizes=np.array([4, 2]), info=("won",), versions={"a": "1"})
    assert loads(numpy.dumps()) == sizes


TRAINER = """
import signal, sys
from gpgrad.envs.external.pool import Care, Pool
from gpgrad.envs.external.protocol import Recipe
from gpgrad.envs.external.process import describe
recipe = Recipe("tests.helpers.toy_starcraft:Parent", {"note": sys.argv[1]}).dumps()
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background
pool = Pool(recipe, describe(recipe, 60.0), 1, Care())
pool.reset([0], [1])
print("ready", flush=True)
pool.step([0], [[1, 1]])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_death_of_the_trainer_leaves_anything(tmp_path, number):
    """Not even a worker that hangs inside its simulator, nor what the simulator started."""
    memory, note = set(Path("/dev/shm").iterdir()), tmp_path / "note"
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(note)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == b"ready\n"
    left = [psutil.Process(int(pid)) for pid in note.read_text().split()]
    time.sleep(0.1)
    trainer.send_signal(number)
    trainer.wait(60)
    deadline = time.monotonic() + 60
    while any(is_running(process) for process in left):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert set(Path("/dev/shm").iterdir()) <= memory


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_guardian_spares_groups_that_ended(tmp_path):
    kept, gone = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
    (tmp_path / "kept").mkdir()
    (tmp_path / "gone" / "inside").mkdir(parents=True)
    lines = [f"+{kept.pid} {tmp_path / 'kept'}\n", f"+{gone.pid} {tmp_path / 'gone'}\n", f"-{kept.pid}\n"]
    watch(lines)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert gone.wait(10) == -signal.SIGKILL
    assert kept.poll() is None
    kept.kill()
    kept.wait()


def test_recipes_are_told_apart_by_their_text():
    assert json.loads(recipe(step_at=3)) == {
        "maker": "tests.helpers.toy_starcraft:SkirmishSimulator",
        "settings": {"step_at": 3},
        "python": None,
    }
