"""A run survives signals, kills, broken checkpoints and full disks, and ends with the same numbers."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.program import actors, make_program
from gpgrad.methods.weighting import visits
from gpgrad.runs import lock, logs, provenance
from gpgrad.runs.logs import MANIFEST
from gpgrad.runs.run_folder import SEEDS
from gpgrad.training import checkpoint, extend, loop, recorder, train
from gpgrad.training.checkpoint import Position
from gpgrad.types import Clock
from tests.helpers.tiny_runs import options, tiny

ROOT = Path(__file__).parents[2]
RUN = {"seeds": 2, "t_max": 600, "evaluation__every_episodes": 20, "checkpoint__every_minutes": 1e-9}
silent = lambda text: None


@pytest.fixture(scope="module")
def program():
    """Compiled once for all runs here: their settings differ in places and cadence only."""
    return make_program(tiny(**RUN))


@pytest.fixture(autouse=True)
def compiled_once(program, monkeypatch):
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: program)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, program):
    """The same run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return train.run(tiny(log__dir=str(folder), **RUN), say=silent)


def interrupted(folder: Path, monkeypatch, visits: int) -> Path:
    """A run that is gone after some chunks, with checkpoints after each."""
    visit, count = loop.Saver.visit, 0

    def counted(self, position):
        nonlocal count
        visit(self, position)
        count += 1
        if count == visits:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Saver, "visit", counted)
    with pytest.raises(KeyboardInterrupt):
        train.run(tiny(log__dir=str(folder), log__name="run", **RUN), say=silent)
    monkeypatch.setattr(loop.Saver, "visit", visit)
    return folder / "run"


def assert_same(one: train.Result, other: train.Result) -> None:
    assert (one.run_dir / "metrics.jsonl").read_bytes() == (other.run_dir / "metrics.jsonl").read_bytes()
    assert one.final == other.final
    assert one.metrics == other.metrics
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize("visits", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 7))])
def test_resume_is_bit_exact(whole, tmp_path, monkeypatch, visits):
    folder = interrupted(tmp_path, monkeypatch, visits)
    assert_same(train.resume(folder, say=silent), whole)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, program):
    """A run of half the length; the program is compiled once for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_program", lambda settings, parts=None: program)
        folder = str(tmp_path_factory.mktemp("finished"))
        return train.run(tiny(log__dir=folder, log__name="short", **{**RUN, "t_max": 300}), say=silent).run_dir


@pytest.fixture
def short(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "short")


def test_an_extended_run_ends_as_one_that_was_as_long_from_the_start(whole, tmp_path, short):
    (short / "pictures").mkdir()  # of the shorter run
    before = {p: p.read_bytes() for p in short.rglob("*") if p.is_file() and p.name != lock.NAME}
    result = train.extend(short, 600, {"name": "long", "dir": str(tmp_path)}, say=silent)
    assert result.run_dir == tmp_path / "long"
    assert_same(result, whole)
    assert config.identity(config.parse(result.run_dir / "config.yaml")) == config.identity(tiny(**RUN))
    assert {p: p.read_bytes() for p in before} == before
    assert not (result.run_dir / "pictures").exists()


def test_a_checkpoint_in_which_a_seed_has_ended_is_not_gone_on_from(whole, tmp_path, short):
    """That seed is no longer tested there, so its rows would be missing."""
    newest = checkpoint.found(short)[0]
    notes = json.loads((newest / checkpoint.NOTES).read_text())
    late = newest.with_name("9999999999-000000")
    shutil.copytree(newest, late)
    size = (short / "metrics.jsonl").stat().st_size
    (late / checkpoint.NOTES).write_text(json.dumps({**notes, "metrics": size}))
    (late / checkpoint.SEAL).write_text(json.dumps(checkpoint._checksums(late)))
    assert_same(train.extend(short, 600, {"name": "long", "dir": str(tmp_path)}, say=silent), whole)


@pytest.mark.parametrize(
    ("t_max", "change", "words"),
    [
        (300, lambda folder: None, "t_max must be more than the 300"),
        (600, lambda folder: shutil.rmtree(folder / checkpoint.FOLDER), "no checkpoint from before its end"),
    ],
)
def test_what_cannot_be_extended_is_said(tmp_path, short, t_max, change, words):
    change(short)
    with pytest.raises(SettingError, match=words):
        train.extend(short, t_max, {"name": "long", "dir": str(tmp_path)}, say=silent)
    assert not (tmp_path / "long").exists()


@pytest.mark.parametrize("apart", [False, True])
def test_visit_counts_of_an_extended_run_have_room_for_its_length(tmp_path, apart):
    """Their table follows t_max; what was counted goes along, for seeds in one program and for seeds apart."""
    shorter, longer = (tiny("gpvd", weighting__k=32, t_max=t, log__dir=str(tmp_path), seeds=2) for t in (600, 6000))
    parts, count = compose(shorter), 1 if apart else 2
    states = jax.jit(jax.vmap(make_init(shorter, parts)))(jnp.arange(count, dtype=jnp.int32))
    words = jnp.array(np.random.default_rng(0).integers(0, 2**32, (count, 500, 1), dtype=np.uint32))
    words = words.at[:, 100:].set(words[:, :1])
    counts = jax.vmap(visits.count_visits)(states.weighting.counts, words, jnp.ones((count, 500), bool))
    states = states._replace(weighting=states.weighting._replace(counts=counts))
    position = Position(start_clock(), states, actors(states), np.zeros(count, bool), np.zeros((), np.int32))
    folder = recorder.create_folder(shorter)
    recorder.describe_run(shorter, folder)
    for part in [folder / SEEDS / str(i) for i in range(2)] if apart else [folder]:
        part.mkdir(parents=True, exist_ok=True)
        (part / "metrics.jsonl").touch()
        checkpoint.save(part, position, {"metrics": 0}, keep=2)

    place = extend.begin(folder, 6000, {"name": "long", "dir": str(tmp_path)}, silent)
    template = jax.eval_shape(
        lambda: position._replace(states=jax.vmap(make_init(longer, compose(longer)))(jnp.arange(count)))
    )
    for part in [place / SEEDS / str(i) for i in range(2)] if apart else [place]:
        read, notes = checkpoint.newest(part, template, print)
        assert notes == {"metrics": 0}
        assert read.states.weighting.counts.table.shape == (count, 9000)
        got = jax.vmap(visits.visits)(read.states.weighting.counts, words)
        np.testing.assert_array_equal(got, jax.vmap(visits.visits)(counts, words))
        assert int(got[0, 0]) == 401


def test_every_array_of_a_position_survives(tmp_path, program):
    settings = tiny(**RUN)
    position = loop.start(settings, program)
    clock, states = program.chunk(position.clock, position.states, 7)
    position = position._replace(clock=clock, states=states)
    checkpoint.save(tmp_path, position, {"metrics": 5}, keep=2)
    template = jax.eval_shape(lambda: loop.start(settings, program))
    loaded = checkpoint.newest(tmp_path, template, print)
    assert loaded is not None
    data = lambda leaf: jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(data(a), data(b)), loaded[0], position)
    assert loaded[1] == {"metrics": 5}


@pytest.mark.parametrize(
    "damage", ["truncate", "draft", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("remove", "flip"))]
)
def test_broken_checkpoints_are_passed_over(whole, tmp_path, monkeypatch, damage):
    folder = interrupted(tmp_path, monkeypatch, 5)
    new, old = checkpoint.found(folder)
    largest = max((p for p in new.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    if damage == "truncate":
        os.truncate(largest, largest.stat().st_size // 2)
    elif damage == "remove":
        largest.unlink()
    elif damage == "flip":
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 255
        largest.write_bytes(content)
    else:
        shutil.copytree(new, new.with_name("9999999999-000000.draft"))
        shutil.rmtree(new / checkpoint.ARRAYS)
    heard: list[str] = []
    assert_same(train.resume(folder, say=heard.append), whole)
    assert any("passing over" in line for line in heard)
    assert not old.exists() or checkpoint.is_whole(old)


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 5)
    for place in checkpoint.found(folder):
        (place / checkpoint.SEAL).unlink()
    kept = lambda: {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST}
    before = kept()
    with pytest.raises(SettingError, match=r"^no checkpoint in .* is intact; remove that folder"):
        train.resume(folder, say=silent)
    assert kept() == before  # the manifest has an entry for each process that tried


def test_a_checkpoint_that_cannot_be_read_now_stays(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 5)
    places = checkpoint.found(folder)

    def refuse(path):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_checksum", refuse)
        with pytest.raises(OSError, match="Stale file handle"):
            train.resume(folder, say=silent)
    assert checkpoint.found(folder) == places
    assert all(checkpoint.is_whole(place) for place in places)


@pytest.mark.parametrize("change", ["shape", "dtype", "missing", "extra"])
def test_arrays_of_other_settings_are_not_read(tmp_path, change):
    """Orbax alone would cut or cast them."""
    stored = {"a": np.zeros((3, 2), np.float32), "b": np.zeros(2, np.int32)}
    other = {"shape": ("a", (3, 4), np.float32), "dtype": ("b", 2, np.float32), "extra": ("c", (), np.float32)}
    template = dict(stored)
    if change == "missing":
        del template["b"]
    else:
        name, shape, dtype = other[change]
        template[name] = np.zeros(shape, dtype)
    checkpoint._write_arrays(tmp_path / "arrays", stored)
    words = {
        "shape": r"a must be float32 \[3, 4\] \(got float32 \[3, 2\]\)",
        "dtype": r"b must be float32 \[2\] \(got int32 \[2\]\)",
        "missing": r"b must be absent \(got int32 \[2\]\)",
        "extra": r"c must be float32 \[\] \(got none\)",
    }
    with pytest.raises(ValueError, match=words[change]):
        checkpoint._read(tmp_path / "arrays", template)


def test_what_kills_and_damage_left_goes_when_a_checkpoint_is_written(tmp_path):
    for left in ("0000000001-000000.draft", "9999999999-000000"):
        (tmp_path / checkpoint.FOLDER / left).mkdir(parents=True)
    places = []
    for iterations in (3, 4):
        position = Position(Clock(*jnp.full(3, iterations)), (), (), np.zeros(1, bool), np.array(0))  # type: ignore[arg-type]
        checkpoint.save(tmp_path, position, {}, keep=2)
        places = sorted((tmp_path / checkpoint.FOLDER).iterdir())
    assert [place.name for place in places] == ["0000000003-000000", "0000000004-000000"]
    assert all(map(checkpoint.is_whole, places))


def test_arrays_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    """Of a run older than manifests with settings, whose config.yaml was changed by hand."""
    folder = interrupted(tmp_path, monkeypatch, 3)
    manifest = logs.read_manifest(folder)
    del manifest["settings"]
    provenance.write(folder, manifest)
    path = folder / "config.yaml"
    capacity = tiny(**RUN).replay.capacity
    path.write_text(path.read_text().replace(f"replay.capacity: {capacity}", f"replay.capacity: {2 * capacity}"))
    changed = make_program(config.parse(path))
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: changed)
    with pytest.raises(SettingError, match=r"does not fit its config.yaml or is damaged: states\.replay\."):
        train.resume(folder, say=silent)


def test_without_a_checkpoint_a_run_starts_again(whole, tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 3)
    shutil.rmtree(folder / checkpoint.FOLDER)
    assert_same(train.resume(folder, say=silent), whole)


def test_a_disk_that_takes_nothing_costs_no_run(whole, tmp_path, monkeypatch, capsys):
    def refuse(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", refuse)
    result = train.run(tiny(log__dir=str(tmp_path), **RUN), say=silent)
    assert (result.run_dir / "metrics.jsonl").read_bytes() == (whole.run_dir / "metrics.jsonl").read_bytes()
    assert "No space left on device" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.draft"))


def test_only_the_newest_are_kept(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 6)
    places = checkpoint.found(folder)
    assert len(places) == 2
    assert all(checkpoint.is_whole(place) for place in places)


@pytest.mark.parametrize("rows", ["torn", *(pytest.param(rows, marks=pytest.mark.slow) for rows in ("", "one"))])
def test_a_kill_after_training_costs_nothing(whole, tmp_path, monkeypatch, rows):
    """The team is there, of the final rows none, one of two, or one and a half."""
    folder = interrupted(tmp_path, monkeypatch, 7)
    shutil.copytree(whole.run_dir / "team", folder / "team")
    first, second = (whole.run_dir / "final.jsonl").read_text().splitlines(keepends=True)
    (folder / "final.jsonl").write_text({"": "", "one": first, "torn": first + second[:9]}[rows])
    assert_same(train.resume(folder, say=silent), whole)
    assert (folder / "final.jsonl").read_bytes() == (whole.run_dir / "final.jsonl").read_bytes()


def test_one_process_at_a_time(tmp_path, monkeypatch):
    folder = interrupted(tmp_path, monkeypatch, 1)
    with train.hold(folder):
        assert lock.holder(folder / lock.NAME) == os.getpid()
        with pytest.raises(SettingError, match=f"in use by process {os.getpid()}"):
            train.resume(folder, say=silent)
    assert lock.holder(folder / lock.NAME) is None


def test_a_lock_ends_with_its_process_and_is_inherited(tmp_path):
    code = "import sys, time; from gpgrad.runs import lock\n"
    code += f"with lock.hold(lock.Path({str(tmp_path / 'a')!r}), 'it'): print('have', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert lock.holder(tmp_path / "a") == process.pid
        process.kill()
    assert lock.holder(tmp_path / "a") is None
    with lock.hold(tmp_path / "b", "it") as descriptor:
        heir = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    assert lock.holder(tmp_path / "b") == os.getpid()
    heir.kill()
    heir.wait()
    assert lock.holder(tmp_path / "b") is None


def test_resume_refuses_what_it_cannot_do(whole, tmp_path):
    with pytest.raises(SettingError, match="is finished"):
        train.resume(whole.run_dir)
    with pytest.raises(SettingError, match="has no resolved settings"):
        train.resume(tmp_path)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT, signal.SIGKILL]
)
def test_signals(tmp_path, number, program):
    """A process that is told to end saves first, says how to go on, and can."""
    changes = {**RUN, "t_max": 10**7, "seeds_mode": "vmap"}
    settings = tiny(log__dir=str(tmp_path), log__name="run", **changes)
    words = options(settings)
    command = [sys.executable, "-m", "gpgrad", "train", "--env", settings.env.name, "--algo", settings.algo, *words]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    folder = tmp_path / "run"
    deadline = time.monotonic() + 120
    try:
        while len(checkpoint.found(folder)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()  # nobody else would, where it did not do as it was told
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert f"{number.name} ended the run" in complaint
        assert f"gpgrad train --resume {folder}" in complaint
    template = jax.eval_shape(lambda: loop.start(settings, program))
    loaded = checkpoint.newest(folder, template, silent)
    assert loaded is not None
    assert int(loaded[0].clock.iterations) > 0
    assert (folder / "metrics.jsonl").stat().st_size >= loaded[1]["metrics"]


def test_checkpoints_from_before_divergence_was_watched_are_read(tmp_path):
    """Three arrays are younger than they are: zeros."""
    stored = {"states.stats.loss": np.ones(2, np.float32)}
    checkpoint._write_arrays(tmp_path / "arrays", stored)
    younger = dict.fromkeys(checkpoint.YOUNGER, np.zeros(2, np.int32))
    template: dict = {"states": {"stats": {}, "divergence": {}}}
    for name, leaf in {**stored, **younger}.items():
        _, group, own = name.split(".")
        template["states"][group][own] = leaf
    found = checkpoint._read(tmp_path / "arrays", template)
    np.testing.assert_array_equal(found["states"]["stats"]["loss"], stored["states.stats.loss"])
    np.testing.assert_array_equal(found["states"]["divergence"]["streak"], [0, 0])


@pytest.mark.parametrize("moment", ["test", "team", "final", "rows"])
def test_a_signal_between_the_last_test_and_the_last_row_loses_nothing(whole, tmp_path, monkeypatch, program, moment):
    """Whatever is being written then is written; the rest follows with --resume."""
    interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)

    def before(function, when=lambda *args: True):
        def wrapped(*args, **kwargs):
            if when(*args):
                interrupt()
            return function(*args, **kwargs)

        return wrapped

    is_last = lambda settings, program, recorder, position: int(position.tests) == len(whole.metrics) // 2 - 1
    if moment == "test":
        monkeypatch.setattr(loop, "test", before(loop.test, is_last))
    elif moment == "team":
        monkeypatch.setattr(checkpoint, "save_team", before(checkpoint.save_team))
    elif moment == "final":
        monkeypatch.setattr(train, "make_program", lambda *_: program._replace(final=before(program.final)))
    else:
        monkeypatch.setattr(loop.Recorder, "finish", before(loop.Recorder.finish))
    words = "all of it is written" if moment in ("final", "rows") else "continue with: .* --resume"
    with pytest.raises(train.Stopped, match=words):
        train.run(tiny(log__dir=str(tmp_path), log__name="run", **RUN), say=silent)
    folder = tmp_path / "run"
    assert not list(folder.glob("team.draft*"))
    assert (folder / "team").is_dir() == (moment != "test")
    monkeypatch.undo()
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: program)
    if moment in ("test", "team"):
        assert_same(train.resume(folder, say=silent), whole)
    for name in ("metrics", "final"):
        assert (folder / f"{name}.jsonl").read_bytes() == (whole.run_dir / f"{name}.jsonl").read_bytes()


def test_a_second_signal_that_a_library_swallows_still_ends_the_run(tmp_path, monkeypatch):
    def write(place, tree):
        for _ in range(2):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("the event loop is closed") from None

    monkeypatch.setattr(checkpoint, "_write_arrays", write)
    monkeypatch.setattr(loop.Saver, "_save", lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        train.run(tiny(log__dir=str(tmp_path), log__name="run", **RUN), say=silent)


def test_a_full_disk_when_the_team_is_written_is_one_sentence_and_keeps_the_checkpoint(
    whole, tmp_path, monkeypatch, capsys, program
):
    write = checkpoint._write_arrays

    def full(place, tree):
        write(place, tree)
        if "team" in place.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    settings = tiny(log__dir=str(tmp_path), log__name="run", **RUN)
    words = options(settings)
    monkeypatch.setattr(checkpoint, "_write_arrays", full)
    assert cli.main(["train", "--env", settings.env.name, "--algo", settings.algo, *words]) == 1
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert f"the team could not be written to {tmp_path / 'run' / 'team'}: [Errno 28] No space left" in complaint
    assert "--resume" in complaint
    assert not list((tmp_path / "run").glob("team*"))
    assert checkpoint.is_whole(checkpoint.found(tmp_path / "run")[0])
    monkeypatch.setattr(checkpoint, "_write_arrays", write)
    assert_same(train.resume(tmp_path / "run", say=silent), whole)
