"""Generated user mistakes: on the command line, in settings, files and run folders.

Each is the arguments of a command. A file's content or a folder is made where the mistake is tried.
"""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import numpy as np
import yaml

from gpgrad import config
from gpgrad.methods import registry

HUGE = "9" * 400
DEEP = "9" * 5000
COMMANDS_OF_A_RUN = ("eval", "render", "watch", "mirror", "export", "buckets", "separation", "occupancy")
SWEEP = {"worlds": ["matrix_gpvd"], "algorithms": ["vdn"]}
EXPERIMENT = {
    "question": "Is it?",
    "env": "matrix_additive",
    "arms": [{"label": "VDN", "algo": "vdn"}, {"label": "IQL", "algo": "iql"}],
    "scales": {"quick": {"seeds": 2}},
}


class Mistake(NamedTuple):
    """arguments: those of a program, `gpgrad` or `experiments`."""

    program: Literal["gpgrad", "experiments"]
    arguments: list[str]

    def __str__(self) -> str:
        return f"{self.program} {' '.join(word[:60] for word in self.arguments)}"


def wrong_values(kind: Any) -> list[str]:
    """Texts that are invalid for this type."""
    if get_origin(kind) is Literal:
        return ["nothing_of_this_name", "", "1e9"]
    if get_origin(kind) is Union or type(kind).__name__ == "UnionType":
        return wrong_values(next(option for option in get_args(kind) if option is not type(None)))
    return {
        bool: ["maybe", "2", ""],
        int: ["many", "1.5", "nan", "inf", "1e400", "true", "", HUGE],
        float: ["many", "nan", "-inf", "1e400", "true", "", "1,5"],
    }.get(kind, [])


def of_settings() -> Iterator[Mistake]:
    """Every setting of one environment with some algorithms, with values of other types."""
    seen: set[str] = set()
    for algo in ("gpvd", "gradps", "qplex", "kaleidoscope"):
        for name, kind in config.types(config.load("pp_small", algo)).items():
            if name in seen or name == "plugin":
                continue
            seen.add(name)
            for value in wrong_values(kind)[: 8 if "." not in name else 3]:
                yield Mistake("gpgrad", ["params", "--env", "pp_small", "--algo", algo, f"--{name}={value}"])


def of_sizes() -> Iterator[Mistake]:
    """Invalid sizes."""
    names = ("seeds", "t_max", "agent.hidden", "agent.layers", "learner.lr", "learner.clip", "replay.capacity")
    names += ("learner.batch_episodes", "rollout.worlds", "rollout.anneal_steps", "evaluation.episodes")
    names += ("evaluation.every_steps", "evaluation.every_episodes", "checkpoint.keep", "devices", "env.n_agents")
    for name in (*names, "env.height", "env.view_radius", "env.episode_limit"):
        for value in ("0", "-1", "-99999999999999999999"):
            if (name, value) != ("env.view_radius", "0"):
                yield Mistake("gpgrad", ["params", "--env", "pp_small", f"--{name}={value}"])
    for value in ("-1", "2", "nan"):
        for name in ("learner.gamma", "learner.td_lambda", "rollout.start", "rollout.finish"):
            yield Mistake("gpgrad", ["params", f"--{name}={value}"])
    for name in ("seed", "seeds", "t_max", "env.n_agents"):
        yield Mistake("gpgrad", ["train", "--env", "pp_small", f"--{name}={HUGE}"])


def of_names() -> Iterator[Mistake]:
    """Unknown names for each selection, command and option."""
    for key in ("env", "algo", "preset", "seeds_mode", "plugin", *registry.KINDS):
        for value in ("nothing_of_this_name", "", "a/b", "ünknown", "none none", "\0"):
            yield Mistake("gpgrad", ["train", f"--{key}={value}"])
    for module in ("json", "os.path", "numpy", "gpgrad", "envs", "sys", ".relative", "a..b", "gpgrad.nothing"):
        yield Mistake("gpgrad", ["list", "--plugin", module])
    yield Mistake("gpgrad", ["params", "--env", "smax_MMM2"])
    for name in ("a/b", "/", "..", ".", "", "a/../b"):
        yield Mistake("gpgrad", ["train", f"--log.name={name}"])
    for command in config_commands():
        yield Mistake("gpgrad", [command, "--nothing_of_this_name", "1"])
        yield Mistake("gpgrad", [command, "--nothing_of_this_name"])
        yield Mistake("gpgrad", [command, "--=1"])
    for command in ("nothing", "", "--env", "-x", "train.py"):
        yield Mistake("gpgrad", [command])
        yield Mistake("experiments", [command or "nothing"])
    for command in ("run", "report", "status"):
        for name in ("nothing_of_this_name", "", "a/b", "nowhere.yaml", "..", "\0"):
            yield Mistake("experiments", [command, name])
        yield Mistake("experiments", [command, "pp_small_qmix", "--scale", "nothing"])


def config_commands() -> tuple[str, ...]:
    """All commands."""
    from gpgrad.cli import COMMANDS

    return COMMANDS


def of_numbers() -> Iterator[Mistake]:
    """Options of commands that are numbers or files."""
    options = {
        "eval": ("episodes", "stream"),
        "render": ("seed", "episode", "fps"),
        "buckets": ("buckets", "members", "episodes", "epsilon", "seed"),
        "watch": ("every",),
        "occupancy": ("episodes", "epsilon"),
        "export": ("seed",),
        "bench": ("rounds",),
    }
    for command, names in options.items():
        run = [] if command == "bench" else ["RUN"]
        for name in names:
            for value in ("many", "nan", HUGE, ""):
                yield Mistake("gpgrad", [command, *run, *(["--out", "x.npz"] if command == "export" else []),
                                         f"--{name}={value}"])  # fmt: skip
    for command in ("bench", "buckets", "occupancy", "separation", "sweep"):
        run = {"bench": [], "sweep": ["SWEEP"]}.get(command, ["RUN"])
        for file in ("nowhere/x.json", ".", ""):
            yield Mistake("gpgrad", [command, *run, f"--json={file}"])
    for out in ("", "x.txt", "RUN"):
        yield Mistake("gpgrad", ["report", "RUN", f"--out={out}"])
        yield Mistake("gpgrad", ["export", "RUN", f"--out={out}"])
        yield Mistake("gpgrad", ["render", "RUN", f"--out={out}"])
    yield Mistake("gpgrad", ["report", "RUN", "--pictures=nowhere"])
    yield Mistake("gpgrad", ["train", "--extend", "RUN"])
    yield Mistake("gpgrad", ["train", "--extend", "RUN", "--t-max", HUGE])
    yield Mistake("gpgrad", ["train", "--extend", "RUN", "--t-max", "5000", "--log.name", "a/b"])
    yield Mistake("gpgrad", ["train", "--init_from", "RUN"])
    yield Mistake("gpgrad", ["train", "--hosts", "some"])
    yield Mistake("gpgrad", ["train", "--coordinator", "x"])
    yield Mistake("gpgrad", ["mirror", "RUN", "--wandb", "sometimes"])


WRONG: tuple[Any, ...] = (None, True, 5, -1, 1.5, int(HUGE), "text", "", [], {}, [[]], [{}], {"a": 1}, {1: 2}, [None])
RIGHT = {  # what of WRONG a key takes
    "question": ("text", ""),
    "paper": ("text", ""),
    "remark": ("text", ""),
    "metric": ("text", ""),
    "seeds": (5,),
    "first_seed": (5,),
    "threshold": (None, 5, -1, 1.5),
    "overrides": ({},),
    "grid": ({},),
    "list": ([], [{}]),
    "claims": ([], None),
    "interaction": ([],),
    "sizes": ({},),
    "drawings": ([{}],),
    "measure": (),
    "envs": (None,),
    "panel": ("text",),
    "label": ("text",),
    "name": ("text",),
}


def same(one: Any, other: Any) -> bool:
    """Whether values are equal and of the same type."""
    return type(one) is type(other) and one == other


def wrong(key: str) -> Iterator[Any]:
    """Invalid values for a key of a file."""
    for value in WRONG:
        if not any(same(value, right) for right in RIGHT.get(key, ())):
            yield value


def of_declarations(folder: Path) -> Iterator[Mistake]:
    """Sweeps and experiments with a wrong value under each key."""
    count = 0

    def file(content: Any) -> str:
        nonlocal count
        count += 1
        path = folder / f"declared{count}.yaml"
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        path.write_text(text)
        return str(path)

    for key in ("worlds", "algorithms", "preset", "overrides", "grid", "list", "seeds", "first_seed", "metric", "more"):
        for value in wrong(key):
            yield Mistake("gpgrad", ["sweep", file({**SWEEP, key: value}), "--dry-run"])
    for settings in (
        {"learner.lr": 0.1},
        {"learner.lr": [[0.1]]},
        {"learner.lr": [{}]},
        {"nothing": [1]},
        {"seed": [1]},
    ):
        yield Mistake("gpgrad", ["sweep", file({**SWEEP, "grid": settings}), "--dry-run"])
    keys = ("question", "env", "envs", "preset", "overrides", "arms", "claims", "interaction", "measure", "sizes")
    for key in (*keys, "metric", "threshold", "drawings", "scales", "paper", "remark", "more"):
        for value in wrong(key):
            yield Mistake("experiments", ["status", file({**EXPERIMENT, key: value}), "--log.dir", str(folder)])
    for key in ("label", "algo", "env", "preset", "overrides", "panel", "more"):
        for value in wrong(key):
            arms = [{"label": "VDN", "algo": "vdn", key: value}]
            yield Mistake("experiments", ["status", file({**EXPERIMENT, "arms": arms}), "--log.dir", str(folder)])
    for key in ("seeds", "first_seed", "overrides", "more"):
        for value in wrong(key):
            scales = {"quick": {"seeds": 2, key: value}}
            yield Mistake("experiments", ["status", file({**EXPERIMENT, "scales": scales}), "--log.dir", str(folder)])
    for text in BROKEN_TEXT:
        yield Mistake("gpgrad", ["sweep", file(text), "--dry-run"])
        yield Mistake("experiments", ["status", file(text), "--log.dir", str(folder)])


BROKEN_TEXT = (
    "",
    "- 1",
    "text",
    "a: [",
    "a: 1\na: 2",
    "worlds: [x]\nworlds: [y]",
    "question: a\nquestion: b",
    "arms:\n- {label: a, label: b}",
    "\t",
    "a: *nothing",
    "? [1]\n: 2",
    "!!python/object:os.system {}",
    "d: 2001-99-99",
    f"a: {DEEP}",
    "a: " + "[" * 3000,
    "a: \0",
    "<<: 5",
)


def of_files(folder: Path, run: Path) -> Iterator[Mistake]:
    """Invalid files and folders, for every command that reads a run or a file."""
    latin = folder / "latin.yaml"
    latin.write_bytes("question: Größe".encode("latin-1"))
    empty, directory = folder / "empty.yaml", folder / "directory.yaml"
    empty.touch()
    directory.mkdir()
    for path in (latin, empty, directory, folder / "nowhere.yaml", folder / "x" / "nowhere.yaml", latin / "x.yaml"):
        yield Mistake("gpgrad", ["sweep", str(path)])
        yield Mistake("experiments", ["status", str(path)])
    places = [folder / "nowhere", latin, folder, latin / "below", Path("a" * 300), Path("~nobody_of_this_name/x")]
    broken = [broken_run(folder / f"run{i}", run, change) for i, change in enumerate(CHANGES)]
    for path in (*places, *broken):
        structural = path not in broken[STRUCTURAL:]
        for command in ("resume", "extend"):
            steps = ["--t-max", "99999"] if command == "extend" else []
            yield Mistake("gpgrad", ["train", f"--{command}", str(path), *steps])
        for command in COMMANDS_OF_A_RUN:
            if structural or command not in ("watch", "mirror"):  # which ask no part and no world
                yield Mistake("gpgrad", [command, str(path), *(["--out", "x.npz"] if command == "export" else [])])
        yield Mistake("gpgrad", ["report", str(path)])
        if structural:
            yield Mistake("gpgrad", ["compare", str(path), str(run)])
        yield Mistake("gpgrad", ["train", "--init_from", str(path)])
    for path in places:
        if path != folder:
            yield Mistake("gpgrad", ["ls", str(path)])
    for name in ("latin.yaml/below", "latin.yaml", "a" * 300):
        yield Mistake("gpgrad", ["train", "--env", "matrix_gpvd", "--log.dir", str(folder), "--log.name", name])
    yield Mistake("gpgrad", ["train", "--env", "matrix_gpvd", "--log.dir", str(latin)])


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the settings of a run by hand."""

    def changed(run: Path) -> None:
        settings = yaml.safe_load((run / "config.yaml").read_text())
        change(settings)
        (run / "config.yaml").write_text(yaml.safe_dump(settings))

    return changed


def put(name: str, content: bytes) -> Callable[[Path], None]:
    """Another content of a file of a run."""
    return lambda run: (run / name).write_bytes(content) and None


def replaced_by_folder(name: str) -> Callable[[Path], None]:
    """A folder where a file should be."""

    def change(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return change


CHANGES: tuple[Callable[[Path], None], ...] = (
    put("config.yaml", b""),
    put("config.yaml", b"- 1"),
    put("config.yaml", b"env: [\n"),
    put("config.yaml", "env: Größe".encode("latin-1")),
    put("config.yaml", b"\0\1\2"),
    put("config.yaml", b"env: pp_small\nenv: pp_large\n"),
    replaced_by_folder("config.yaml"),
    edit(lambda settings: settings.pop("seeds_mode") and settings.pop("env")),
    edit(lambda settings: settings.update({"env": 5})),
    edit(lambda settings: settings.update({"sharing": ["fups"]})),
    edit(lambda settings: settings.update({"seeds": "many"})),
    edit(lambda settings: settings.update({"seeds": [1]})),
    edit(lambda settings: settings.update({"seed": None})),
    edit(lambda settings: settings.update({"seeds": 0})),
    edit(lambda settings: settings.update({"t_max": "long"})),
    edit(lambda settings: settings.update({"t_max": {"a": 1}})),
    # From here on they are found by those who resolve the settings.
    edit(lambda settings: settings.update({"env": "nothing"})),
    edit(lambda settings: settings.update({"algo": "nothing"})),
    edit(lambda settings: settings.update({"decomposition": "nothing"})),
    edit(lambda settings: settings.update({"t_max": int(HUGE)})),
    edit(lambda settings: settings.update({"learner.lr": "fast"})),
    edit(lambda settings: settings.update({"plugin": "nothing_of_this_name"})),
    edit(lambda settings: settings.update({"plugin": 5})),
)

STRUCTURAL = len(CHANGES) - 7  # so many of them are mistakes for everybody


def broken_run(place: Path, run: Path, change: Callable[[Path], None]) -> Path:
    """A copy of a run's folder with a change."""
    shutil.copytree(run, place)
    change(place)
    return place


def of_rows(folder: Path, run: Path) -> Iterator[Mistake]:
    """Damaged rows."""
    contents = (b"{", b"{\n", b"5\n", b"[]\n", b'"text"\n', b"\xff\xfe\n", b"null\n", b"{}\n", b'{"seed": "x"}\n')
    for i, content in enumerate(contents[1:]):
        place = broken_run(folder / f"rows{i}", run, put("metrics.jsonl", content))
        for command in ("watch", "separation", "report", "mirror"):
            yield Mistake("gpgrad", [command, str(place)])
        yield Mistake("gpgrad", ["compare", str(place), str(run)])


def finished_run(folder: Path) -> Path:
    """A finished run's folder with settings and rows, without a team."""
    run = folder / "a_run"
    run.mkdir()
    settings = config.load("matrix_additive", "vdn", {"t_max": 2000, "evaluation.every_steps": 500, "seeds": 2})
    (run / "config.yaml").write_text(config.dump(settings))
    rows = [{"seed": s, "env_steps": 500 * i, "test_return": 1.0 + s} for i in range(5) for s in range(2)]
    for name, own in {"metrics": rows, "final": rows[-2:], "timing": [{"seconds": 9.0}]}.items():
        (run / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    return run


NUMPY = (np.int64(3), np.int32(3), np.uint8(3), np.float32(3))


def unreadable(path: Path) -> bool:
    """Whether a file without permissions is unreadable, which it is not for root."""
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        return True
    finally:
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    return False
