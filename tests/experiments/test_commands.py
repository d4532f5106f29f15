"""The command line of experiments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpgrad.experiments import __main__ as cli
from gpgrad.jobs import scheduler
from tests.helpers.fake_experiment import put, settings_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run"], "the name of an experiment is missing; must be one of"),
        (["run", "pp_smal_qmix"], "unknown experiment 'pp_smal_qmix'; did you mean 'pp_small_qmix'?"),
        (["run", "pp_small_qmix", "--scale", "quik"], "pp_small_qmix has no scale 'quik'; did you mean 'quick'?"),
        (["run", "pp_small_qmix", "--t_max", "5"], "unknown option --t_max"),
        (["run", "pp_small_qmix", "--log.name", "x"], "--log.name cannot be given"),
        (["report", "pp_small_qmix", "--seeds-mode", "vmap"], "unknown option --seeds-mode"),
        (["list", "pp_small_qmix"], "unknown argument 'pp_small_qmix'"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr(scheduler.Child, "run", lambda *_: pytest.fail("training began"))
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gpgrad: ")
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


def test_status_names_every_seed(two, root, tmp_path, capsys):
    put(root, "vdn", settings_of(seeds=2))
    (root / "broken").mkdir()
    (root / "broken" / "config.yaml").write_text("[]")
    assert cli.main(["status", str(tmp_path / "mine.yaml"), "--log.dir", str(root)]) == 0
    printed = capsys.readouterr().out
    assert f"passing over {root / 'broken'}" in printed
    for line in (
        "mine, quick:",
        f"  VDN on matrix_additive, seeds 0 to 1: finished in {root / 'vdn'}",
        "  IQL on matrix_additive, seeds 0 to 1: not begun",
        "  VDN on matrix_additive, seeds 2 to 4: not begun",
    ):
        assert line in printed.splitlines()
    assert cli.main(["status", "--log.dir", str(root)]) == 0
    assert "pp_p0_qmix, paper:" in capsys.readouterr().out


def test_listing_needs_no_jax():
    code = "import sys; from gpgrad.experiments.__main__ import main; main(['list']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pp_small_qmix: Does QMIX" in done.stdout
    assert "quick (3 seeds), paper (5 seeds)" in done.stdout
