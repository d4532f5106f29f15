"""Command line: `python -m gpgrad train | eval | list`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from envs.errors import SettingError, suggest

USAGE = """usage: python -m gpgrad COMMAND [OPTIONS]

  train --env NAME --algo NAME [--preset NAME] [--decomposition NAME] [--sharing NAME] [--weighting NAME]
        [--seeds N] [--seeds-mode auto|vmap|sequential|process] [--GROUP.SETTING VALUE ...]
                                                      train, with tests, logs and a saved team
  train --resume RUN                                  go on with an interrupted run
  eval RUN [--episodes N] [--stream N]                test the team of a finished run on fresh episodes
  bench --env NAME --algos NAME,NAME [--vary SETTING=VALUE,VALUE] [--rounds N] [--json FILE]
        [--GROUP.SETTING VALUE ...]                   times of updates and their parts, ratios to the first
  occupancy --env NAME [--preset NAME] | RUN [--episodes N] [--epsilon E] [--json FILE]
                                                      how full GPVD's buckets are in random play or a run's team's
  separation RUN [--json FILE]                        whether conflicts of a GradPS run tell hidden roles apart
  params --env NAME --algo NAME [--GROUP.SETTING VALUE ...]
                                                      parameters: trained, in use, and as the GradPS paper counts
  list [worlds | algorithms | presets] [--env NAME]   names; with presets, every setting of each

  train --help shows every setting of the chosen world, algorithm and preset with its value."""

CHOICES = ("env", "algo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did, 1 if the system failed it, 2 for a mistake in what was asked, 130 if stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "train": train,
        "eval": evaluate,
        "bench": measure,
        "occupancy": occupancy,
        "separation": show_separation,
        "params": show_params,
        "list": show_names,
    }
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0
        if arguments[0] not in commands:
            raise SettingError(f"unknown command {arguments[0]!r}{suggest(arguments[0], commands)}")
        if arguments[0] != "train" and any(token in ("-h", "--help") for token in arguments[1:]):
            print(USAGE)
            return 0
        return commands[arguments[0]](arguments[1:])
    except SettingError as error:
        print(f"gpgrad: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gpgrad: {error}; a run that has begun can go on with --resume", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"gpgrad: {stop or 'interrupted; what was written so far is kept'}", file=sys.stderr)
        return 130


def options(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value` pairs. Raises SettingError for anything else."""
    result: dict[str, str] = {}
    rest = iter(arguments)
    for token in rest:
        if not token.startswith("--") or len(token) == 2:
            raise SettingError(f"unexpected argument {token!r}, expected --setting value")
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            value = next(rest, "--")
            if value == "--" or (value.startswith("--") and len(value) > 2):
                raise SettingError(f"--{name} has no value, expected --{name} VALUE")
        if name in result:
            raise SettingError(f"--{name} is given twice")
        result[name] = value
    return result


def train(arguments: Sequence[str]) -> int:
    """Train and report where the results are."""
    from gpgrad import config

    wants_help = any(token in ("-h", "--help") for token in arguments)
    given = options([token for token in arguments if token not in ("-h", "--help")])
    if "resume" in given:
        return go_on(given)
    chosen = {name: given.pop(name) for name in CHOICES if name in given}
    settings = config.load(**chosen, overrides=given)
    if wants_help:
        return show_settings(settings)
    from gpgrad.train import run

    run(settings)
    return 0


def go_on(given: dict[str, str]) -> int:
    """Resume a run with the settings it was started with."""
    folder = Path(given.pop("resume"))
    if given:
        raise SettingError(f"--{next(iter(given))} cannot be changed when a run is resumed, expected --resume alone")
    from gpgrad.train import resume

    resume(folder)
    return 0


def evaluate(arguments: Sequence[str]) -> int:
    """Test a finished run's team on episodes it has not met, and print a row per seed."""
    import dataclasses

    if not arguments or arguments[0].startswith("--"):
        raise SettingError("eval needs the folder of a finished run, as in: python -m gpgrad eval runs/NAME")
    folder = Path(arguments[0])
    given = options(arguments[1:])
    from gpgrad import checks
    from gpgrad.loop import test_rows
    from gpgrad.program import make_program

    numbers = {"episodes": "200", "stream": "1"} | given
    for name in given:
        if name not in ("episodes", "stream"):
            raise SettingError(f"unknown option --{name}{suggest(name, ['episodes', 'stream'])}")
    episodes, stream = (checks.coerce(numbers[name], int, f"--{name}") for name in ("episodes", "stream"))
    if episodes < 1 or not 0 <= stream <= checks.LARGEST:
        raise SettingError(f"--episodes is {episodes} and --stream is {stream}, expected 1 or more, and 0 or more")
    chosen = finished(folder)
    tests = dataclasses.replace(chosen.evaluation, final_episodes=episodes)
    chosen = dataclasses.replace(chosen, evaluation=tests, devices=1)
    program = make_program(chosen)
    team = load_team(folder, program, chosen.seeds)
    for row in test_rows(chosen, program.final(team, stream)):
        print(json.dumps(row))
    return 0


def finished(folder: Path):
    """The settings of a finished run. Raises SettingError for any other folder."""
    from gpgrad import config

    if not (folder / "team").is_dir():
        raise SettingError(f"{folder} holds no finished run, expected a folder with config.yaml and team")
    return config.parse(folder / "config.yaml")


def load_team(folder: Path, program, seeds: int):
    """The teams of a finished run. Raises SettingError where they do not fit."""
    from gpgrad import checkpoint

    try:
        return checkpoint.load_team(folder, program, seeds)
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise SettingError(f"the team in {folder} does not fit its config.yaml or is damaged: {problem}") from None


def occupancy(arguments: Sequence[str]) -> int:
    """How full the buckets of state codes are, in random play or with the team of a finished run's first seed."""
    folder = Path(arguments[0]) if arguments and not arguments[0].startswith("--") else None
    given = options(arguments[1:] if folder else arguments)
    from gpgrad import checks, config

    numbers = {"episodes": "256", "epsilon": "1.0" if folder is None else "0.05"}
    numbers |= {name: given.pop(name) for name in numbers if name in given}
    file = given.pop("json", None)
    episodes = checks.coerce(numbers["episodes"], int, "--episodes")
    eps = checks.coerce(numbers["epsilon"], float, "--epsilon")
    if not 0 <= eps <= 1:
        raise SettingError(f"--epsilon is {eps}, expected between 0 and 1")
    if folder and given:
        raise SettingError(f"--{next(iter(given))} cannot be changed for a run, expected --episodes, --epsilon, --json")
    chosen = finished(folder) if folder else config.load(given.pop("env", "pp_p2"), overrides=given)
    batch = chosen.learner.batch_episodes
    if episodes < batch or episodes % batch:
        raise SettingError(f"--episodes is {episodes}, expected a multiple of learner.batch_episodes = {batch}")
    import jax
    from rich.console import Console
    from rich.table import Table

    from gpgrad import occupancy as buckets
    from gpgrad.program import make_program

    program, key = make_program(chosen), jax.random.key(chosen.seed)
    actor = buckets.untrained(chosen, program.parts)
    if folder:
        actor = jax.tree.map(lambda leaf: leaf[0], load_team(folder, program, chosen.seeds))
    rows = buckets.table(buckets.play(program.parts, actor, key, episodes, batch, eps), key)
    who = f"the team of {folder}" if folder else "random play"
    names = [f"{g}: shared, buckets, largest" for g in buckets.PREPROCESSING]
    shown = Table("k", *names, title=f"{chosen.env.name}, {who}, {episodes} episodes in batches of {batch}")
    for k in buckets.BITS:
        cells = [row for row in rows if row["k"] == k]
        texts = (f"{c['shared']:.1%}, {c['buckets']:.0f}, {c['largest']:.1%}" for c in cells)
        shown.add_row(str(k), *texts)
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
    if file:
        Path(file).write_text(json.dumps(rows, indent=2))
    return 0


def measure(arguments: Sequence[str]) -> int:
    """Measure algorithms in alternation; a table, and the rows as JSON."""
    given = options(arguments)
    env, algos = given.pop("env", "pp_small"), given.pop("algos", "qmix").split(",")
    file = given.pop("json", None)
    from gpgrad import checks, config

    rounds = checks.coerce(given.pop("rounds", "30"), int, "--rounds")
    if rounds < 3:
        raise SettingError(f"--rounds is {rounds}, expected 3 or more")
    varied, _, values = given.pop("vary", "").partition("=")
    if varied and not values:
        raise SettingError(f"--vary is {varied!r}, expected a setting with values, as in seeds=1,8")
    loaded = {algo: config.load(env, algo, given) for algo in algos}
    if varied:
        loaded = {
            f"{algo} {varied}={value}": config.load(env, algo, {**given, varied: value})
            for algo in algos
            for value in values.split(",")
        }
    from rich.console import Console
    from rich.table import Table

    from gpgrad import bench

    setups = [bench.setup(algo, settings) for algo, settings in loaded.items()]
    rows = bench.report(setups, bench.measure(setups, rounds))
    table = Table("", *loaded, title=f"{env}, medians of {rounds} rounds")
    for name in list(rows[0])[1:]:
        table.add_row(name, *(f"{row[name]:.4g}" for row in rows))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if file:
        Path(file).write_text(json.dumps(rows, indent=2))
    return 0


def show_separation(arguments: Sequence[str]) -> int:
    """Whether conflicts tell which agents the world made different, for the last test of every seed of a run."""
    if not arguments or arguments[0].startswith("--"):
        raise SettingError("the run is missing, expected separation RUN")
    folder, given = Path(arguments[0]), options(arguments[1:])
    file = given.pop("json", None)
    for name in given:
        raise SettingError(f"unknown option --{name}{suggest(name, ['json'])}")
    from rich.console import Console
    from rich.table import Table

    from gpgrad import logs, separation

    newest = {row["seed"]: row for row in logs.read_rows(folder / "metrics.jsonl") if row.get("conflict") is not None}
    found = {}
    for seed, row in sorted(newest.items()):
        if "roles" not in row:
            raise SettingError(f"the world of {folder} hides no roles, expected one that does, such as pp_small")
        found[seed] = separation.separation(row)
    if not found:
        raise SettingError(f"{folder} has no rows with conflicts, expected a run that watches them: --sharing gradps")
    table = Table("seed", *separation.Separation._fields, title=f"conflict and hidden roles in {folder}")
    for seed, answer in found.items():
        table.add_row(
            str(seed), *(("-",) * len(separation.Separation._fields) if answer is None else map(_short, answer))
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if file:
        rows = [{"seed": seed, **(answer._asdict() if answer else {})} for seed, answer in found.items()]
        Path(file).write_text(json.dumps(rows, indent=2))
    return 0


def _short(value: float) -> str:
    return f"{value:.4g}"


def show_params(arguments: Sequence[str]) -> int:
    """Count a method's parameters, and those of the paper's tables for this world."""
    from gpgrad import config

    given = options(arguments)
    chosen = {name: given.pop(name) for name in CHOICES if name in given}
    settings = config.load(**chosen, overrides=given)
    from rich.console import Console
    from rich.table import Table

    from gpgrad import accounting

    where = f"{settings.env.name} {config.label(settings)}"
    table = Table("parameters", "agents", settings.decomposition.name, "together", title=where)
    for row in accounting.account(settings):
        table.add_row(row.what, *(f"{n:,}" for n in (row.agents, row.decomposition, row.agents + row.decomposition)))
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    if settings.decomposition.name == "qmix":
        sizes = accounting.sizes(settings)
        mixer = accounting.paper_mixer(sizes)
        title = f"as the GradPS paper counts, K = {sizes.groups}; percent of FuPS as in its tables 13 and 12"
        table = Table("method", "agents", "together", "agents %", "together %", title=title)
        for method in accounting.METHODS:
            agents = accounting.paper_agents(method, sizes)
            percent = accounting.paper_percent(method, sizes)
            table.add_row(method, f"{agents:,}", f"{agents + mixer:,}", *(f"{p:.1f}" for p in percent))
        console.print(table)
    return 0


def show_names(arguments: Sequence[str]) -> int:
    """Names of worlds, algorithms and presets; with `presets`, every setting of each."""
    import envs
    from gpgrad import config, registry

    topics = ("worlds", "algorithms", "presets")
    topic = arguments[0] if arguments and not arguments[0].startswith("--") else ""
    given = options(arguments[1:] if topic else arguments)
    if topic and topic not in topics:
        raise SettingError(f"unknown topic {topic!r}{suggest(topic, topics)}")
    for name in given:
        if name != "env":
            raise SettingError(f"unknown option --{name}{suggest(name, ['env'])}")
        if topic != "presets":
            raise SettingError("--env goes with list presets alone, as in: list presets --env pp_p2")
    if topic == "presets":
        return show_presets(given.get("env", "pp_small"))
    lists = {"worlds": [*envs.names(), *envs.patterns()], "algorithms": config.algorithms()}
    lists |= {f"{kind}s": registry.names(kind) for kind in registry.KINDS} | {"presets": config.available("preset")}
    for name, values in lists.items():
        if topic in ("", name):
            print(f"{name}: {' '.join(values)}")
    return 0


def show_presets(env: str) -> int:
    """A table of every setting with a column per training preset."""
    from rich.console import Console
    from rich.table import Table

    from gpgrad import config

    presets = config.available("preset")
    columns = [config.flat(config.load(env, "qmix", {"preset": preset})) for preset in presets]
    table = Table("setting", *presets, title=f"every setting with qmix on {env}, by training preset")
    for name in columns[0]:
        values = [str(column.get(name)) for column in columns]
        style = "bold" if len(set(values)) > 1 else ""
        table.add_row(name, *values, style=style)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return 0


def show_settings(settings) -> int:
    """Every setting of a configuration: name, value, what it does."""
    import dataclasses

    from rich.console import Console
    from rich.table import Table

    from gpgrad import config

    helps = {f.name: f.metadata.get("help", "") for f in dataclasses.fields(settings)}
    for group in dataclasses.fields(settings):
        value = getattr(settings, group.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, config.Part):
            helps |= {f"{group.name}.{f.name}": f.metadata.get("help", "") for f in dataclasses.fields(value)}
    table = Table("--setting", "value", "what it does")
    for name, value in config.flat(settings).items():
        table.add_row(name, str(value), helps.get(name, ""))
    print(USAGE + "\n")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main())
