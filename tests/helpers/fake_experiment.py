"""An experiment of two arms, and run folders as training leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from gpgrad import config
from gpgrad.config import numerics
from gpgrad.config.schema import Config
from gpgrad.experiments import definition, schema
from gpgrad.experiments.reporting import report
from gpgrad.runs import run_folder, wanted_seeds

SMALL = {"agent.hidden": 8, "evaluation.final_episodes": 3, "evaluation.every_steps": 500, "t_max": 2000}
TWO = {
    "question": "Is VDN better than IQL?",
    "env": "matrix_additive",
    "overrides": SMALL,
    "arms": [{"label": "VDN", "algo": "vdn"}, {"label": "IQL", "algo": "iql"}],
    "threshold": 5,
    "scales": {"quick": {"seeds": 2}, "paper": {"seeds": 5}},
}
silent = lambda text: None


def written(folder: Path, content: dict, name: str = "mine") -> str:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(file)


def settings_of(algo: str = "vdn", **changes) -> Config:
    return config.load("matrix_additive", algo, {**SMALL, **changes})


def put(root: Path, name: str, settings: Config, final=None, top: float = 10.0, **manifest: Any) -> Path:
    """A run folder as training leaves it. final: number of seeds with a final row, by default all."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump(settings))
    kept = {"jax": "1", "jaxmarl": "0.2.0", "numerics": numerics.versions(settings), **manifest}
    (folder / "manifest.json").write_text(json.dumps(kept))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    metrics = [
        {"seed": seed, "env_steps": steps, "test_return": top * steps / 2000 + seed, "test_agent": [1.0]}
        for steps in (0, 500, 1000, 1500, 2000)
        for seed in seeds
    ]
    rows = [
        {"seed": seed, "test_return": top + 2 * seed} for seed in seeds[: settings.seeds if final is None else final]
    ]
    for file, content in {"metrics": metrics, "final": rows}.items():
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


def job(root: Path, settings: Config, wanted: range):
    found = wanted_seeds.next_job(run_folder.scan(root)[0], config.identity(settings), wanted)
    return found and (found.action, found.seeds, found.run and found.run.folder.name)


def reported(experiment: schema.Definition, scale: str, root: Path) -> dict:
    found, _ = run_folder.scan(root)
    results = report.collect(experiment, definition.setups(experiment, scale), found)
    return report.summary(experiment, scale, results, found)
