"""Seeds whose updates are no longer finite: stopped, marked, told, and never counted as a result."""

from __future__ import annotations

import json
import threading
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.experiments import archive, definition
from gpgrad.jobs import scheduler
from gpgrad.learning import iteration
from gpgrad.learning.program import Program, make_program
from gpgrad.policies.load import load_team
from gpgrad.runs import divergence, logs, run_folder, wanted_seeds
from gpgrad.runs.divergence import Diverged
from gpgrad.training import checkpoint, loop, seed_layout, train
from gpgrad.training import seed_worker as share
from gpgrad.types import PATIENCE, Divergence
from gpgrad.viz import report
from tests.helpers import fake_experiment
from tests.helpers.tiny_runs import options, tiny

RUN = {"rollout__worlds": 1, "learner__updates_per_episode": 1, "t_max": 80, "evaluation__every_episodes": 20}
RUN |= {"checkpoint__every_minutes": 1e-9, "seeds_mode": "vmap"}
silent = lambda text: None


def settings(**changes):
    return tiny("vdn", "two_step", **{**RUN, **changes})


@pytest.fixture(scope="module")
def pair():
    """Of two seeds, compiled once."""
    return make_program(settings(seeds=2))


@pytest.fixture(scope="module")
def single():
    """Of one seed, compiled once."""
    return make_program(settings(seeds=1))


def poisoned(program: Program, *lost: int) -> Program:
    """The program whose teams of these seeds begin with a parameter that is not finite."""

    def init(seeds):
        states = program.init(seeds)
        bad = jnp.isin(jnp.asarray(seeds), jnp.array(lost, jnp.int32))
        spoil = lambda leaf: jnp.where(bad.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)
        return states._replace(params=jax.tree.map(spoil, states.params))

    return program._replace(init=init)


def trained(monkeypatch, folder: Path, program: Program, **changes) -> Path:
    """The folder of a run that this program trains, whose end is Diverged."""
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: program)
    with pytest.raises(Diverged):
        train.run(settings(log__dir=str(folder), log__name="run", **changes), say=silent)
    return folder / "run"


def test_a_rate_of_1e30_ends_with_code_1_and_one_sentence(tmp_path, capsys):
    given = {"learner__lr": 1e30, "seeds": 2, "log__dir": str(tmp_path), "log__name": "run"}
    words = options(settings(**given))
    assert cli.main(["train", "--env", "two_step", "--algo", "vdn", *words]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    for part in ("seed 0 after ", "seed 1 after ", " updates, at ", "lower learner.lr", str(tmp_path / "run")):
        assert part in printed.err
    folder = tmp_path / "run"
    rows = logs.read_rows(folder / "diverged.jsonl")
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert 1 <= row["updates"] <= 5  # the first updates are made with finite parameters
        assert 8 <= row["env_steps"] <= 20
    assert logs.read_rows(folder / "final.jsonl") == []
    assert all(row["nonfinite_updates"] == 0 for row in logs.read_rows(folder / "metrics.jsonl"))
    assert checkpoint.found(folder)
    assert cli.main(["eval", str(folder)]) == 2
    assert "have diverged" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(folder)]) == 2
    assert "has diverged (seeds 0 to 1), nothing is left to resume" in capsys.readouterr().err


@pytest.fixture(scope="module")
def mixed(pair, tmp_path_factory):
    """Seed 1 diverged, seed 0 did not."""
    with pytest.MonkeyPatch.context() as patch:
        return trained(patch, tmp_path_factory.mktemp("mixed"), poisoned(pair, 1), seeds=2)


def test_other_seeds_of_the_program_are_trained_to_their_end(mixed, pair, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: pair)
    whole = train.run(settings(seeds=2, log__dir=str(tmp_path), log__name="whole"), say=silent)
    own = lambda rows: [row for row in rows if row["seed"] == 0]
    assert logs.read_rows(mixed / "metrics.jsonl")[2:] == own(whole.metrics)[1:]  # seed 1 has its first test alone
    assert logs.read_rows(mixed / "final.jsonl") == own(whole.final)
    assert all(row["nonfinite_updates"] == 0 for row in whole.metrics)
    assert logs.read_rows(whole.run_dir / "diverged.jsonl") == []


def test_without_stopping_a_run_goes_on_and_is_marked(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: poisoned(pair, 1))
    changes = {"seeds": 2, "learner__stop_on_nan": False, "log__dir": str(tmp_path), "log__name": "run"}
    result = train.run(settings(**changes), say=silent)
    assert [row["seed"] for row in result.final] == [0, 1]
    last = {row["seed"]: row for row in result.metrics}
    assert last[0]["nonfinite_updates"] == 0
    assert last[1]["nonfinite_updates"] == 20
    assert last[1]["loss"] is None
    assert divergence.seeds(result.run_dir) == [1]
    [found], _ = run_folder.scan(tmp_path)
    assert [share.seeds for share in wanted_seeds.finished([found], found.identity, range(2))] == [[0]]
    assert run_folder.read(result.run_dir).state == "diverged"


def test_a_run_of_nothing_but_finite_updates_is_the_same_with_and_without(pair):
    """The setting says when a run ends, not what it computes: records of before stay what they are."""
    on, off = settings(), settings(learner__stop_on_nan=False)
    assert config.identity(on) == config.identity(off)
    assert config.fingerprint(on) == config.fingerprint(off)


def test_seeds_one_after_another(single, tmp_path, monkeypatch):
    """The diverged one stops no other, and the whole ends as in one program."""
    folder = trained(monkeypatch, tmp_path, poisoned(single, 0), seeds=2, seeds_mode="sequential")
    assert divergence.seeds(folder) == [0]
    assert [row["seed"] for row in logs.read_rows(folder / "final.jsonl")] == [1]
    assert run_folder.read(folder).state == "diverged"


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="processes are for CPUs")
def test_seeds_as_processes(single, tmp_path, monkeypatch, capsys):
    """Each worker is played by a call in this process."""

    def launch(share_of, core, repeat):
        code = share.main([str(part) for part in share_of])
        for line in capsys.readouterr().out.splitlines():
            repeat(line)
        done = types.SimpleNamespace(wait=lambda: code, kill=lambda: None, send_signal=lambda number: None)
        reader = threading.Thread(target=lambda: None)
        reader.start()
        return seed_layout.Worker(done, reader)  # type: ignore[arg-type]

    monkeypatch.setattr(seed_layout, "_launch", launch)
    monkeypatch.setattr(share, "make_program", lambda settings: poisoned(single, 1))
    folder = trained(monkeypatch, tmp_path, single, seeds=2, seeds_mode="process")
    assert divergence.seeds(folder) == [1]
    assert [row["seed"] for row in logs.read_rows(folder / "final.jsonl")] == [0]


def test_resumed_after_one_has_diverged_it_ends_the_same(pair, mixed, tmp_path, monkeypatch):
    visit, count = loop.Saver.visit, 0

    def counted(self, position):
        nonlocal count
        visit(self, position)
        count += 1
        if len(divergence.seeds(tmp_path / "run")) == 1 and count > 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Saver, "visit", counted)
    monkeypatch.setattr(train, "make_program", lambda settings, parts=None: poisoned(pair, 1))
    with pytest.raises(KeyboardInterrupt):
        train.run(settings(seeds=2, log__dir=str(tmp_path), log__name="run"), say=silent)
    monkeypatch.setattr(loop.Saver, "visit", visit)
    with pytest.raises(Diverged, match="seed 1 after 0 updates"):
        train.resume(tmp_path / "run", say=silent)
    for name in ("metrics", "final", "diverged"):
        assert (tmp_path / "run" / f"{name}.jsonl").read_bytes() == (mixed / f"{name}.jsonl").read_bytes()


def test_lists_and_reports_mark_it(mixed, capsys):
    assert cli.main(["ls", str(mixed.parent)]) == 0
    assert "diverged (seed 1)" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["watch", str(mixed)]) == 0
    assert "diverged (seed 1): " in capsys.readouterr().out
    assert cli.main(["compare", str(mixed), str(mixed)]) == 0
    printed = capsys.readouterr().out
    assert "diverged (seed 1)" in printed
    assert "1 seed in common" in printed
    [entry] = report.collect([mixed])
    assert "diverged (seed 1)" in entry.name
    assert list(entry.final) == [0]


def test_experiments_and_sweeps_count_only_the_others(mixed, monkeypatch):
    found, _ = run_folder.scan(mixed.parent)
    identity = found[0].identity
    assert [share.seeds for share in wanted_seeds.finished(found, identity, range(2))] == [[0]]
    assert wanted_seeds.next_job(found, identity, range(2)) is None  # it would diverge again
    lines = wanted_seeds.overview(found, identity, range(2))
    assert [(line.seeds, line.text.split()[0]) for line in lines] == [([0], "finished"), ([1], "diverged")]
    assert "diverged (seed 1)" in scheduler._diverged(found, identity, range(2))
    assert not scheduler._diverged(found, identity, range(1))


def test_teams_of_diverged_seeds_are_not_taken(mixed, tmp_path):
    load_team(mixed, 0)
    with pytest.raises(SettingError, match=r"has diverged \(seed 1\)"):
        load_team(mixed, 1)
    assert cli.main(["eval", str(mixed), "--episodes", "2", "--json", str(tmp_path / "rows.json")]) == 0
    assert [row["seed"] for row in json.loads((tmp_path / "rows.json").read_text())] == [0]
    with pytest.raises(SettingError, match=r"has diverged \(seed 1\) and cannot be extended"):
        train.extend(mixed, 200, {})


def test_streaks_end_at_a_finite_update_until_there_are_too_many():
    metrics = {"loss": jnp.ones(()), "grad_norm": jnp.ones(())}
    names = ("loss", "grad_norm", "updates", "nonfinite_updates")
    seen = iteration.Watched({name: jnp.zeros(()) for name in names}, Divergence(jnp.int32(0), jnp.int32(0)))
    step = jax.jit(iteration.watch)

    def after(bad: list[bool], name: str = "loss") -> tuple[int, int, int]:
        now = seen
        for i, is_bad in enumerate(bad):
            now = step(now, {**metrics, name: jnp.float32(np.inf if is_bad else 1)}, jnp.int32(7 * i))
        return int(now.divergence.streak), int(now.divergence.env_steps), int(now.stats["nonfinite_updates"])

    few = PATIENCE - 1
    assert after([False, True, True]) == (2, 7, 2)
    assert after([True] * few + [False]) == (0, 0, few)
    assert after([True] * few + [False, True]) == (1, 7 * PATIENCE, PATIENCE)
    assert after([True] * PATIENCE + [False]) == (PATIENCE + 1, 0, PATIENCE)
    assert after([True], "grad_norm") == (1, 0, 1)


def test_a_report_leaves_diverged_seeds_out_and_says_so(tmp_path):
    """Rows of a final test, which a run that goes on has of them too, do not make them results."""
    root = tmp_path / "runs"
    folder = fake_experiment.put(root, "vdn", fake_experiment.settings_of(seeds=2))
    (folder / "diverged.jsonl").write_text(json.dumps({"seed": 1, "env_steps": 500, "updates": 9}) + "\n")
    experiment = definition.load(fake_experiment.written(tmp_path, fake_experiment.TWO))
    first = fake_experiment.reported(experiment, "quick", root)["arms"][0]
    assert first["seeds"] == [0]
    assert first["final"]["n"] == 1
    assert first["missing"] == {"1": f"diverged in {folder}"}
    found, _ = run_folder.scan(root)
    archive.keep(found, tmp_path / "results")
    kept, _ = run_folder.scan(tmp_path / "results" / archive.RECORDS)
    assert [run.diverged for run in kept] == [(1,)]
