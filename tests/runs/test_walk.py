"""Every command of README.md and docs is run, as a stranger would type it; only sizes are added that make it short."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.project.test_docs import ALL, DOCS, ROOT, expanded

pytestmark = pytest.mark.slow

SMALL = {
    "t_max": "400",
    "evaluation.every_steps": "200",
    "evaluation.episodes": "2",
    "evaluation.final_episodes": "2",
    "learner.batch_episodes": "2",
    "learner.updates_per_episode": "1",
    "replay.capacity": "8",
    "agent.hidden": "8",
    "rollout.worlds": "1",
    "log.wandb": "disabled",
}
SIZES = {  # of other commands, and of an algorithm
    "bench": {"rounds": "3", "learner.batch_episodes": "2", "replay.capacity": "400", "agent.hidden": "8"},
    "eval": {"episodes": "3"},
    "occupancy": {"episodes": "128"},
    "seps": {"sharing.episodes": "2"},
    "adaps": {"sharing.episodes": "2"},
}
# What this is a part of; tests/learning/test_multiprocess.py, tests/project/test_site.py.
ELSEWHERE = re.compile("make (test|test-all|lint|docs)$|.*--coordinator")
NEEDS = {  # what is not to be had everywhere, and a word of the sentence that is then said
    "ENV=smac_": "smac",
    "--env smac_": "smac",
    "--env.python": "path of a Python interpreter",
    "--jobs slurm": "Slurm",
    "dashboard": "wandb",
}


# A command that several pages have runs once.
ONCE = {command: page for page, command in reversed(ALL) if not ELSEWHERE.match(command)}


def options(words: list[str], sizes: dict[str, str]) -> list[str]:
    """What is said stays, but for the sizes."""
    kept, skip = [], False
    for word in words:
        name, has_value, _ = word.removeprefix("--").partition("=")
        if not skip and not (word.startswith("--") and name in sizes):
            kept.append(word)
        skip = not skip and word.startswith("--") and name in sizes and not has_value
    return [*kept, *(part for name, value in sizes.items() for part in (f"--{name}", value))]


def shortened(module: str, words: list[str], house: Path) -> list[str]:
    """The same command, over in seconds."""
    if words[0] == "experiment":
        if words[1] == "queue" and "--status" not in words:
            return ["experiment", "queue", str(short_queue(house)), *words[2:], "--results", str(house / "results")]
        if words[1] != "run":
            return words
        return ["experiment", "run", str(brief(words[2], house)), *words[3:], "--results", str(house / "results")]
    if words[0] != "train":
        return options(words, SIZES.get(words[0], {}))
    if "--help" in words or "--resume" in words:
        return words
    if "--extend" in words:
        return options(words, {"t-max": "800"})
    several = {"seeds": "2"} if "--seeds" in words else {}
    return options(words, SMALL | several | SIZES.get(words[words.index("--algo") + 1], {}))


def make_room(words: list[str], house: Path) -> None:
    """A run that is resumed has been stopped before its end; one that is to be made is not there yet; a study that is
    reported has been made.
    """
    if words[0] == "tune" and "--report" in words:
        assert call("gpgrad", ["tune", words[1]], house).returncode == 0
    if "--resume" in words:
        shutil.rmtree(house / words[-1] / "team", ignore_errors=True)
        (house / words[-1] / "final.jsonl").unlink(missing_ok=True)
    if "--log.name" in words:
        shutil.rmtree(house / "runs" / words[words.index("--log.name") + 1], ignore_errors=True)


def brief(name: str, house: Path) -> Path:
    """The experiment with two arms, one seed and few steps."""
    told = yaml.safe_load((ROOT / "experiments" / "catalog" / f"{name}.yaml").read_text())
    sizes = {key: yaml.safe_load(value) for key, value in SMALL.items() if key != "log.wandb"}
    told |= {"arms": told["arms"][:2], "claims": [], "scales": {"quick": {"seeds": 1, "overrides": sizes}}}
    path = house / f"{name}.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def short_queue(house: Path) -> Path:
    """A queue of one brief experiment, in place of the project's, which takes days."""
    path = house / "queue.yaml"
    entry = {"name": str(brief("pp_small_qmix", house)), "scale": "quick", "why": "To see it run."}
    path.write_text(yaml.safe_dump({"queue": [entry]}))
    return path


def short_tuning(page: str) -> str:
    """The page's tuning file with one trial of one seed."""
    found = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert found
    small = {"overrides": {"t_max": 800, "evaluation.every_steps": 400}, "trials": 1, "tuning_seeds": 1, "seeds": 1}
    return yaml.safe_dump({**yaml.safe_load(found[1]), **small})


def call(module: str, words: list[str], house: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), str(house)])
    return subprocess.run([sys.executable, "-m", module, *words], cwd=house, env={**os.environ, "PYTHONPATH": paths},
                          text=True, capture_output=True, timeout=500)  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs, files and modules that the pages speak of."""
    folder = tmp_path_factory.mktemp("house")
    for name, algo, rate in (("NAME", "gpvd", "1e-3"), ("A", "qmix", "1e-3"), ("B", "qmix", "5e-4")):
        words = ["train", "--env", "pp_p2", "--algo", algo, "--learner.lr", rate, "--log.name", name]
        done = call("gpgrad", options(words, SMALL | {"checkpoint.every_minutes": "1e-9"}), folder)
        assert done.returncode == 0, done.stderr
    done = call(
        "gpgrad", options(["train", "--env", "pp_small", "--algo", "gradps", "--log.name", "mine"], SMALL), folder
    )
    assert done.returncode == 0, done.stderr
    for other, name in (("ONE", "A"), ("OTHER", "B")):
        (folder / "runs" / other).symlink_to(folder / "runs" / name)
    pages = {page.stem: page.read_text() for page in DOCS}
    sweep = re.search(r"```yaml\n(.*?)```", pages["sweeps"], re.DOTALL)
    world = re.search(r"```python\n(.*?)```", pages["external_environments"], re.DOTALL)
    variation = re.search(r"```python\n(.*?)```", pages["variation"], re.DOTALL)
    assert sweep
    assert world
    assert variation
    (folder / "late.py").write_text(variation[1])
    (folder / "my_sweep.yaml").write_text(sweep[1])
    (folder / "my_tuning.yaml").write_text(short_tuning(pages["tuning"]))
    (folder / "config.yaml").write_text("env: sc2\nenv_args: {map_name: 3m}\nagent: rnn\nmixer: qmix\nlr: 0.0005\n")
    (folder / "corridor.py").write_text(world[1])
    (folder / "my_module.py").write_text(
        'from gpgrad import envs\n\nenvs.register("my_world", "gpgrad.envs.matrix:gpvd3", family="mine")\n'
    )
    return folder


@pytest.mark.parametrize("command", ONCE, ids=lambda command: f"{ONCE[command]}: {command}")
def test_every_command_runs(command: str, house: Path):
    lacking = next((sentence for words, sentence in NEEDS.items() if words in command), None)
    for module, *words in expanded(command):
        make_room(words, house)
        done = call(module, shortened(module, words, house), house)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        if lacking is not None and done.returncode:
            assert done.returncode == 2, said
            assert lacking in said
        else:
            assert done.returncode == 0, said
