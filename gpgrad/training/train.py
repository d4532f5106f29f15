"""Train, resume and extend runs: the Python entry points of training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import jax

from gpgrad.config import flat, parse, typed, validate
from gpgrad.config.schema import Config
from gpgrad.envs import checking
from gpgrad.errors import SettingError
from gpgrad.learning import devices, external_rollout, multiprocess
from gpgrad.learning.program import Program, make_program
from gpgrad.runs import divergence, lock, logs, provenance
from gpgrad.runs.divergence import Diverged
from gpgrad.runs.signals import Stopped
from gpgrad.training import extend as extension
from gpgrad.training import loop, memory_plan, recorder, seed_layout, warm_start
from gpgrad.training.loop import Result
from gpgrad.training.recorder import check_folder, create_folder, describe_run
from gpgrad.training.seed_layout import Layout

__all__ = ["Diverged", "Result", "Stopped", "extend", "resume", "run"]


def run(config: Config, say: Callable[[str], None] = print) -> Result:
    """Train all seeds of a configuration to t_max steps. Raises SettingError before anything compiles.

    Raises Diverged, once all else is done and written, where seeds have diverged and `learner.stop_on_nan` is on.
    """
    config = typed(config)
    seed_layout.divide_cpu(config)
    devices.require()
    validate.check(config)
    validate.check_name(config.log.name)
    if multiprocess.first():
        check_folder(config)
    if config.init_from is not None:
        warm_start.finished(Path(config.init_from))
    config, program, layout = prepare(config, say)
    folder = multiprocess.at_first(lambda: create_folder(config), Path(config.log.dir))
    say(f"results: {folder}")
    with hold(folder):
        multiprocess.at_first(lambda: describe_run(config, folder, recorder.teams_of(config)), None)
        return finish(config, program, layout, folder, say)


def resume(folder: Path, say: Callable[[str], None] = print) -> Result:
    """Continue an interrupted run from its newest intact checkpoint, as if it had never been interrupted.

    Raises SettingError where the run is finished, its config.yaml was edited since it began, or a part of it has
    another numerics version today.
    """
    return go_on(folder, say, lambda config: provenance.go_on(folder, recorder.machine(config)))


def go_on(folder: Path, say: Callable[[str], None], note: Callable[[Config], None]) -> Result:
    """Train a run that exists to its end. note: called by the first process, once all is known to fit."""
    config = parse(folder / "config.yaml")
    seed_layout.divide_cpu(config)
    devices.require()
    config = devices.fewer(config)  # another machine may have another number
    provenance.check(folder, config)
    with hold(folder):
        _require_rest(folder, config)
        layout = prepare(warm_start.located(config, folder), say, needs_teams=not warm_start.begun(folder))
        multiprocess.at_first(lambda: note(config), None)
        return finish(*layout, folder, say)


def _require_rest(folder: Path, config: Config) -> None:
    """Raise SettingError where a run has nothing left to do."""
    lost, final = divergence.seeds(folder), logs.read_rows(folder / "final.jsonl")
    if not divergence.is_over(flat(config), final, lost) or not (folder / "team").is_dir():
        return
    if lost:
        raise SettingError(f"the run in {folder} has {divergence.short(lost)}, nothing is left to resume")
    raise SettingError(f"the run in {folder} is finished, nothing is left to resume")


def extend(folder: Path, t_max: int, log: dict[str, str], say: Callable[[str], None] = print) -> Result:
    """Train a run further, to `t_max` steps, as a new run beside it: see `extension.begin`."""
    devices.require()
    if multiprocess.several():
        raise SettingError(
            "a run is extended by one process: leave out --hosts; several processes can --resume it afterwards"
        )
    if lost := divergence.seeds(folder):
        raise SettingError(f"the run in {folder} has {divergence.short(lost)} and cannot be extended")
    return go_on(extension.begin(folder, t_max, log, say), say, lambda config: None)


def hold(folder: Path) -> AbstractContextManager[int]:
    """Hold the run's lock: a run is trained by one process at a time, or by several that train together."""
    if not multiprocess.first():
        return contextlib.nullcontext(0)
    return lock.hold(folder / lock.NAME, f"the run in {folder}")


def prepare(config: Config, say: Callable[[str], None], needs_teams: bool = True) -> tuple[Config, Program, Layout]:
    """The settings with the layout of the seeds decided, and the program, once all is known to fit.

    needs_teams: whether the teams that `init_from` names are still to be read, if it names any.
    """
    checking.refuse_named(config.env.name, config.env.options)
    alone = dataclasses.replace(config, seeds=1, devices=1, shard="seeds")
    program = make_program(alone)
    if external_rollout.is_external(program.parts.env):
        external_rollout.check(config, program.parts.env)
    loop.test_period(config, program.parts.env.spec.episode_limit)
    if needs_teams:
        warm_start.check_start(config, program)
    needs = memory_plan.make_plan(alone, program)
    layout = decide(config, needs, external_rollout.is_external(program.parts.env))
    if devices.wants_batch(config) and jax.default_backend() != "cpu":  # devices of one CPU have one memory
        needs = memory_plan.shared(needs, devices.split(config).count)
    config = dataclasses.replace(config, seeds_mode=layout.mode)
    if layout.mode == "vmap" and (config.seeds > 1 or multiprocess.several() or devices.wants_batch(config)):
        program = make_program(config, program.parts)
    memory_plan.refuse_if_too_big(needs, config, layout.alive)
    say(needs.sentence(layout.alive))
    if config.seeds > 1:
        say(str(layout))
    if layout.mode == "vmap" and not external_rollout.is_external(program.parts.env):
        split = devices.split(config)
        if split.count > 1 or config.shard == "batch":
            say(str(split))
    return config, program, layout


def decide(config: Config, needs: memory_plan.Plan, has_processes: bool) -> Layout:
    """How seeds are laid out: over all devices where several processes have come together, and in one program where
    devices share the batches.

    has_processes: whether the world's simulators are processes already, which all seeds share.
    """
    if devices.wants_batch(config) and devices.split(config).by == "batch":
        if config.seeds_mode not in ("auto", "vmap"):
            raise SettingError(
                f"seeds_mode must be vmap, since devices share every seed's batch (got {config.seeds_mode!r})"
            )
        return Layout("vmap", config.seeds, "devices share the batch of every seed")
    if not multiprocess.several():
        cores = 1 if has_processes else len(seed_layout.cores())
        return seed_layout.decide(config, needs, jax.default_backend(), jax.device_count(), cores)
    if config.seeds_mode not in ("auto", "vmap"):
        raise SettingError(
            f"seeds_mode must be vmap, since several processes share the seeds (got {config.seeds_mode!r})"
        )
    if config.devices is not None:
        raise SettingError(
            f"devices must not be set, since every process uses all devices of its own (got {config.devices})"
        )
    if config.checkpoint.keep_best:
        raise SettingError("checkpoint.keep_best must be false, since several processes share the seeds (got true)")
    count = jax.process_count()
    return Layout("vmap", -(-config.seeds // count), f"on each of {count} processes")


def finish(config: Config, program: Program, layout: Layout, folder: Path, say: Callable[[str], None]) -> Result:
    """Train to the end, in the layout that was decided."""
    try:
        if layout.mode == "vmap":
            return loop.finish(config, program, folder, say)
        return seed_layout.train_separately(config, program, layout, folder, say)
    finally:
        if program.simulators:
            program.simulators.close()
