"""Looking at runs from a terminal: ls, compare, watch."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.cli import watch
from gpgrad.runs import chart, lock, run_folder
from gpgrad.runs.progress import Display
from gpgrad.training import ending

SMALL = {"t_max": 2000, "evaluation.every_steps": 500, "seeds": 5}


def put(root: Path, name: str, top: float = 10.0, algo: str = "vdn", finished: bool = True, tests: int = 5, **changes):
    """A run's folder as training leaves it."""
    folder = root / name
    folder.mkdir(parents=True)
    settings = config.load("matrix_additive", algo, {**SMALL, **changes})
    (folder / "config.yaml").write_text(config.dump(settings))
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": name, "jax": "1"}))
    rows = [
        {"seed": seed, "env_steps": 500 * i, "test_return": top * i / 4 + seed}
        for i in range(tests)
        for seed in range(settings.seeds)
    ]
    final = [{"seed": seed, "test_return": top + seed} for seed in range(settings.seeds if finished else 0)]
    for file, content in {"metrics": rows, "final": final, "timing": [{"seconds": 120.0}]}.items():
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


def test_ls_tells_what_how_far_and_how_good(tmp_path, capsys):
    put(tmp_path, "a")
    put(tmp_path, "b", finished=False, tests=3, weighting="gpvd")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text("- 1")
    held = put(tmp_path, "d", finished=False, tests=2)
    with lock.hold(held / lock.NAME, "it"):
        assert cli.main(["ls", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[1]: line for line in printed.splitlines() if line.startswith("│")}
    assert "finished" in lines["a"]
    assert "2,000 of 2,000" in lines["a"]
    assert "12 ± 2 " in lines["a"]  # 10 to 14, t = 2.776 for four degrees of freedom
    assert "interrupted" in lines["b"]
    assert "vdn-fups-gpvd" in lines["b"]
    assert "running, process" in lines["d"]
    assert f"passing over {tmp_path / 'c'}" in printed.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ls", "nowhere"], "there is no folder nowhere"),
        (["ls", "EMPTY"], "holds no runs"),
        (["ls", "EMPTY", "--metrik", "x"], "unknown option --metrik; did you mean 'metric'?"),
        (["compare", "one"], "compare needs two runs"),
        (["compare", "nowhere", "either"], "nowhere holds no run: it must have config.yaml"),
        (["watch"], "watch needs the folder of a run"),
        (["watch", "nowhere"], "nowhere holds no run"),
        (["watch", "nowhere", "--every", "0"], "--every must be more than 0 seconds (got 0)"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path, capsys, arguments, sentence):
    assert cli.main([str(tmp_path) if word == "EMPTY" else word for word in arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_compare_shows_what_differs_and_judges(tmp_path, capsys):
    one = put(tmp_path, "one", top=20.0, algo="qmix")
    other = put(tmp_path, "other", top=10.0, **{"learner.lr": 0.25})
    assert cli.main(["compare", str(one), str(other)]) == 0
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    names = {line.split("│")[1].strip() for line in lines}
    assert {"algo", "decomposition", "decomposition.embed", "learner.lr"} <= names
    assert not names & {"env", "seeds", "t_max", "versions: jax", "versions: fingerprint", "log.name"}
    assert "0.25" in next(line for line in lines if "learner.lr" in line)
    assert "A - B: 10, 95% interval 7.5 to 12.5, p = 0.0079, 5 seeds in common" in printed
    assert "A is better: shown" in printed
    assert "results so far" not in printed
    assert cli.main(["compare", str(other), str(one)]) == 0
    assert "A is better: contradicted" in capsys.readouterr().out
    few = put(tmp_path, "few", seeds=2, finished=False)
    assert cli.main(["compare", str(one), str(few)]) == 0
    printed = capsys.readouterr().out
    assert "A is better: not conclusive (2 of 5 seeds)" in printed
    assert "not both are finished" in printed
    (one / "final.jsonl").write_text(json.dumps({"seed": 0, "test_won": 1.0}) + "\n")
    assert cli.main(["compare", str(one), str(other), "--metric", "test_won"]) == 0
    assert "no verdict: no seed has test_won in both runs" in capsys.readouterr().out


def test_runs_of_different_environments_are_not_compared(tmp_path, capsys):
    one, alike = put(tmp_path, "one"), put(tmp_path, "alike", **{"env.w": 2.0})
    other = tmp_path / "other"
    shutil.copytree(one, other)
    text = (one / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("env: matrix_additive", "env: matrix_gpvd"))
    assert cli.main(["compare", str(one), str(other)]) == 2
    assert capsys.readouterr().err == (
        f"gpgrad: {one} is a run on matrix_additive and {other} one on matrix_gpvd; both must be of one environment\n"
    )
    assert cli.main(["compare", str(one), str(alike)]) == 0
    printed = capsys.readouterr().out
    assert "no verdict: the environments differ in env.w" in printed
    assert "A is better" not in printed


@pytest.mark.parametrize("words", [["ls", "ROOT"], ["watch", "RUN"], ["compare", "RUN", "RUN"]])
def test_a_metric_that_no_test_has_is_refused(words, tmp_path, capsys):
    names = {"ROOT": str(tmp_path), "RUN": str(put(tmp_path, "run"))}
    words = [names.get(word, word) for word in words]
    assert cli.main([*words, "--metric", "test_returns"]) == 2
    said = capsys.readouterr().err
    assert said == "gpgrad: no test has the metric 'test_returns'; did you mean 'test_return'?\n"


def test_watch_of_a_finished_run_ends_at_once(tmp_path, capsys):
    assert cli.main(["watch", str(put(tmp_path, "run"))]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" steps  test_return") == 5
    assert "2,000 steps  test_return 12" in printed
    assert "finished: 2,000 of 2,000 steps" in printed
    assert "test_return ± 95%: 12 ± 2 (final test)" in printed


def test_watch_follows_a_run_to_its_end(tmp_path, capsys):
    folder = put(tmp_path, "run", finished=False, tests=2, seeds=1)
    said: list[str] = []

    def train():
        """Another process's work: two more tests, the final one, the end."""
        for steps in (1000, 1500):
            wait_until(f"{steps - 500:,} steps")
            with (folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"seed": 0, "env_steps": steps, "test_return": 7.0}) + "\n")
        wait_until("1,500 steps")
        (folder / "final.jsonl").write_text(json.dumps({"seed": 0, "test_return": 9.0}) + "\n")

    def wait_until(line):
        end = time.monotonic() + 20
        while line not in "".join(said) and time.monotonic() < end:
            time.sleep(0.01)
            said.append(capsys.readouterr().out)

    thread = threading.Thread(target=train)
    with lock.hold(folder / lock.NAME, "it"):
        thread.start()
        assert cli.main(["watch", str(folder), "--every", "0.02"]) == 0
    thread.join()
    said.append(capsys.readouterr().out)
    printed = "".join(said)
    assert printed.count(" steps  test_return") == 4
    assert "(final test)" in printed


def test_seeds_that_train_apart_are_watched_together(tmp_path):
    folder = put(tmp_path, "run", finished=False, tests=0, seeds=2)
    for seed in (0, 1):
        part = put(folder / "seeds", str(seed), tests=3, finished=False, seeds=1)
        rows = [{"seed": seed, "env_steps": 500 * i, "test_return": 1.0 + seed} for i in range(3 - seed)]
        (part / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = run_folder.read(folder)
    assert run.steps == 500
    assert watch.tests(run, "test_return") == [(0, 1.5), (500, 1.5)]


def test_a_chart_is_as_high_as_its_values():
    rising = chart.chart([0, 10], [5, 25], width=8, height=4)
    top, *_, bottom = rising.splitlines()
    assert top.startswith("25 ")
    assert bottom.lstrip().startswith("5 ")
    assert bottom[3] != "\u2800"
    assert bottom[-1] == "\u2800"
    assert top[-1] != "\u2800"
    half = chart.chart([0, 5], [1, 1], width=8, height=2, right=10).splitlines()
    assert all(line[-1] == "\u2800" for line in half)  # what is still to come


def test_none_of_them_imports_jax(tmp_path):
    one = put(tmp_path, "one")
    code = (
        "import sys; from gpgrad.__main__ import main\n"
        f"for words in (['ls', {str(tmp_path)!r}], ['compare', {str(one)!r}, {str(one)!r}], ['watch', {str(one)!r}]):\n"
        "    assert main(words) == 0\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_names_that_differ_at_their_ends_are_told_apart_in_80_columns(tmp_path, capsys, monkeypatch):
    """As a terminal shows them: wrapped, where they were cut they looked alike."""
    names = [f"pp_medium-qmix-gradps-0123abcd-20260101-12000{i}" for i in range(3)]
    for name in names:
        put(tmp_path, name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["ls", str(tmp_path)]) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    cells = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    assert cells == "".join(names)


def test_an_ascii_terminal_shows_runs(tmp_path, monkeypatch):
    one, other = put(tmp_path, "one"), put(tmp_path, "größe")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    for words in (["ls", str(tmp_path)], ["compare", str(one), str(other)], ["watch", str(other)]):
        assert cli.main(words) == 0
    stream.flush()
    printed = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert printed.isascii()
    assert b"gr??e" in printed or b"gr?" in printed


ROWS = [{"seed": s, "env_steps": 5, "updates": 1, "test_return": 1.0 + s, "epsilon": 0.5} for s in range(2)]


def test_the_display_falls_back_to_ascii(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")  # strict, as Python's stdout is
    monkeypatch.setattr(sys, "stdout", stream)
    display = Display("größe", 10)
    display.start()
    display.test(ROWS)
    display.final(ROWS)
    display.stop()
    stream.flush()
    printed = stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert printed.count("1.50 +- ") == 2


def test_the_display_shows_losses_that_are_not_finite(capsys):
    """Rows hold null for them; a run that goes on with a diverged seed is not to end at its display."""
    display = Display("a", 10)
    for losses in ((1.0, None), (None, None), (None, 2.0)):
        rows = [{**row, "loss": loss, "nonfinite_updates": 3} for row, loss in zip(ROWS, losses, strict=True)]
        display.test(rows)
    printed = " ".join(capsys.readouterr().out.split())
    assert "loss 1 (1 of 2 seeds finite)" in printed
    assert "loss not finite" in printed
    assert "loss 2 (1 of 2 seeds finite)" in printed


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error")])
def test_a_terminal_that_is_gone_stops_no_run(error, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "stdout", Gone())
    display = Display("a", 10)
    display.start()
    for _ in range(3):
        display.test(ROWS)
        display.update(1.0, {"epsilon": 0.1}, {"loss": 1.0})
    display.stop()


def test_home_is_the_home_folder_in_every_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "run")
    for words in (["ls", "~"], ["watch", "~/run"], ["compare", "~/run", "~/run"]):
        assert cli.main(words) == 0
    capsys.readouterr()
    loaded = config.load("matrix_gpvd", "vdn", {"log.dir": "~/runs", "init_from": "~/run"})
    assert (loaded.log.dir, loaded.init_from) == (f"{tmp_path}/runs", f"{tmp_path}/run")
    assert config.load("matrix_gpvd", "vdn").init_from is None


def test_the_command_to_resume_is_quoted(tmp_path):
    words = shlex.split(ending.to_resume(tmp_path / "it's a run"))
    assert words == ["gpgrad", "train", "--resume", str(tmp_path / "it's a run")]


LIGHT = (
    ["--help"],
    ["--version"],
    ["train"],
    ["bench"],
    ["train", "--help"],
    ["list"],
    ["list", "presets"],
    ["experiment", "list"],
    ["trian"],
    ["train", "--lr", "1"],
    ["train", "--env", "smax_3m", "--algo", "qplex", "--seeds", "many"],
    ["train", "--resume", "nowhere"],
    ["params", "--learner.lrr", "1"],
    *([command, "nowhere"] for command in ("eval", "occupancy", "buckets", "separation", "mirror", "render", "watch")),
    ["export", "nowhere", "--out", "x.npz"],
    ["compare", "nowhere", "either"],
    ["report", "nowhere"],
    ["ls", "nowhere"],
    ["sweep", "nowhere.yaml"],
)


def test_what_needs_no_jax_does_not_import_it(tmp_path):
    code = (
        "import sys; from gpgrad.__main__ import main\n"
        f"for words in {LIGHT!r}:\n"
        "    code = main(words)\n"
        "    print(words, code, 'jax' in sys.modules, file=sys.stderr)\n"
        "    assert code in (0, 2) and 'jax' not in sys.modules, words\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_rows_fit_80_columns_and_piped_ones_have_percent_and_time_left(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("gpgrad.runs.progress.time.monotonic", lambda: next(clock))
    display = Display("pp_small qmix_fups_id", 1_000_000)
    numbers = {"test_return": -123.45, "test_won": 0.5, "payoff_error": 1234.5, "loss": 123.4, "epsilon": 0.5}
    for steps in (0, 250_000):
        display.update(steps, {"epsilon": 0.5}, {"loss": 1.0})
        timing = {"simulator_steps": steps, "simulator_seconds": steps / 2500}
        display.test([{"seed": s, "env_steps": steps, "updates": 9, **numbers} for s in range(5)], timing)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "250,000 steps 25% return -123.45 ± 0.00 won 0.50" in text
    assert re.search(r"steps/s simulators 2,500/s, learner 2,500/s 10 min 00 s left 5 seeds, ± 95%$", text)
    assert [line for line in lines if line.startswith(" " * 17)]
