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

from tests.unit.test_docs import ALL, ROOT, expanded

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
ELSEWHERE = re.compile("make (test|test-all|lint)$|.*--coordinator")  # what this is a part of; tests/unit/test_hosts.py
NEEDS = {  # what is not to be had everywhere, and a word of the sentence that is then said
    "ENV=smac_": "smac",
    "--jobs slurm": "Slurm",
    "dashboard": "wandb",
}


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
    if module == "experiments" and words[0] == "run":
        return ["run", str(brief(words[1], house)), *words[2:], "--results", str(house / "results")]
    if module == "experiments":
        return words
    if "--resume" in words:
        shutil.rmtree(house / words[-1] / "team", ignore_errors=True)  # as if it had been stopped before its end
        (house / words[-1] / "final.jsonl").unlink(missing_ok=True)
    if (
        "mine" in words and words[0] == "train"
    ):  # the fixture has made it, for the commands that come first on another page
        shutil.rmtree(house / "runs" / "mine", ignore_errors=True)
    if words[0] == "train" and "--help" not in words and "--resume" not in words:
        more = {"seeds": "2"} if "--seeds" in words else {"sharing.episodes": "2"} if "seps" in words else {}
        return options(words, SMALL | more)
    if words[0] == "bench":
        sizes = ("learner.batch_episodes", "replay.capacity", "agent.hidden")
        return options(words, {"rounds": "3", **{name: SMALL[name] for name in sizes}})
    if words[0] == "eval":
        return options(words, {"episodes": "3"})
    if words[0] == "occupancy":
        return options(words, {"episodes": "128"})
    return words


def brief(name: str, house: Path) -> Path:
    """The experiment with two arms, one seed and few steps."""
    told = yaml.safe_load((ROOT / "experiments" / "catalog" / f"{name}.yaml").read_text())
    sizes = {key: yaml.safe_load(value) for key, value in SMALL.items() if key != "log.wandb"}
    told |= {"arms": told["arms"][:2], "claims": [], "scales": {"quick": {"seeds": 1, "overrides": sizes}}}
    path = house / f"{name}.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


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
        done = call("gpgrad", options(words, SMALL), folder)
        assert done.returncode == 0, done.stderr
    done = call(
        "gpgrad", options(["train", "--env", "pp_small", "--algo", "gradps", "--log.name", "mine"], SMALL), folder
    )
    assert done.returncode == 0, done.stderr
    for other, name in (("ONE", "A"), ("OTHER", "B")):
        (folder / "runs" / other).symlink_to(folder / "runs" / name)
    pages = {page.stem: page.read_text() for page in (ROOT / "docs").glob("*.md")}
    sweep = re.search(r"```yaml\n(.*?)```", pages["sweeps"], re.DOTALL)
    world = re.search(r"```python\n(.*?)```", pages["host_worlds"], re.DOTALL)
    assert sweep
    assert world
    (folder / "my_sweep.yaml").write_text(sweep[1])
    (folder / "corridor.py").write_text(world[1])
    (folder / "my_module.py").write_text(
        'import envs\n\nenvs.register("my_world", "envs.matrix:gpvd3", family="mine")\n'
    )
    return folder


@pytest.mark.parametrize(("page", "command"), [pair for pair in ALL if not ELSEWHERE.match(pair[1])])
def test_every_command_runs(page: str, command: str, house: Path):
    lacking = next((sentence for words, sentence in NEEDS.items() if words in command), None)
    for module, *words in expanded(command):
        done = call(module, shortened(module, words, house), house)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        if lacking is not None and done.returncode:
            assert done.returncode == 2, said
            assert lacking in said
        else:
            assert done.returncode == 0, said
