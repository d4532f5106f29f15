"""A run from its settings: what it will take, its folder, its seeds, its end. The Python entry to training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import jax

from gpgrad import config, envs
from gpgrad.config import validate
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


def run(settings: Config, say: Callable[[str], None] = print) -> Result:
    """Train all seeds of a configuration to t_max steps. Raises SettingError before anything compiles.

    Raises Diverged, once all else is done and written, where seeds have diverged and `learner.stop_on_nan` is on.
    """
    devices.require()
    settings = config.typed(settings)
    validate.check(settings)
    validate.check_name(settings.log.name)
    if multiprocess.first():
        check_folder(settings)
    if settings.init_from is not None:
        warm_start.finished(Path(settings.init_from))
    settings, program, layout = prepare(settings, say)
    folder = multiprocess.at_first(lambda: create_folder(settings), Path(settings.log.dir))
    say(f"results: {folder}")
    with hold(folder):
        multiprocess.at_first(lambda: describe_run(settings, folder, recorder.teams_of(settings)), None)
        return finish(settings, program, layout, folder, say)


def resume(folder: Path, say: Callable[[str], None] = print) -> Result:
    """Go on with an interrupted run, from its newest whole checkpoint, as if it had never been interrupted.

    Raises SettingError where the run is finished, its config.yaml was edited since it began, or a part of it has
    another numerics version today.
    """
    return go_on(folder, say, lambda settings: provenance.go_on(folder, recorder.machine(settings)))


def go_on(folder: Path, say: Callable[[str], None], note: Callable[[Config], None]) -> Result:
    """Train a run that exists to its end. note: called by the first process, once all is known to fit."""
    devices.require()
    settings = devices.fewer(config.parse(folder / "config.yaml"))  # another machine may have another number
    provenance.check(folder, settings)
    with hold(folder):
        _require_rest(folder, settings)
        layout = prepare(warm_start.located(settings, folder), say, needs_teams=not warm_start.begun(folder))
        multiprocess.at_first(lambda: note(settings), None)
        return finish(*layout, folder, say)


def _require_rest(folder: Path, settings: Config) -> None:
    """Raise SettingError where a run has nothing left to do."""
    lost, final = divergence.seeds(folder), logs.read_rows(folder / "final.jsonl")
    if not divergence.is_over(config.flat(settings), final, lost) or not (folder / "team").is_dir():
        return
    if lost:
        raise SettingError(f"the run in {folder} has {divergence.short(lost)}, nothing is left to resume")
    raise SettingError(f"the run in {folder} is finished, nothing is left to resume")


def extend(folder: Path, t_max: int, log: dict[str, str], say: Callable[[str], None] = print) -> Result:
    """Train a run further, to `t_max` steps, as a new run beside it: see `extension.begin`."""
    devices.require()
    if multiprocess.several():
        raise SettingError("a run is extended by one process, expected no --hosts; several can --resume it afterwards")
    if lost := divergence.seeds(folder):
        raise SettingError(f"the run in {folder} has {divergence.short(lost)} and cannot be extended")
    return go_on(extension.begin(folder, t_max, log, say), say, lambda settings: None)


def hold(folder: Path) -> AbstractContextManager[int]:
    """A run is trained by one process at a time, or by several that have come together."""
    if not multiprocess.first():
        return contextlib.nullcontext(0)
    return lock.hold(folder / lock.NAME, f"the run in {folder}")


def prepare(settings: Config, say: Callable[[str], None], needs_teams: bool = True) -> tuple[Config, Program, Layout]:
    """The settings with the layout of the seeds decided, and the program, once all is known to fit.

    needs_teams: whether the teams that `init_from` names are still to be read, if it names any.
    """
    if not envs.is_built_in(settings.env.name):
        checking.refuse(envs.make(settings.env.name, **settings.env.options))
    alone = dataclasses.replace(settings, seeds=1, devices=1)
    program = make_program(alone)
    loop.test_period(settings, program.parts.env.spec.episode_limit)
    if needs_teams:
        warm_start.check_start(settings, program)
    needs = memory_plan.make_plan(alone, program)
    layout = decide(settings, needs, external_rollout.is_external(program.parts.env))
    settings = dataclasses.replace(settings, seeds_mode=layout.mode)
    if layout.mode == "vmap" and (settings.seeds > 1 or multiprocess.several()):
        program = make_program(settings, program.parts)
    memory_plan.refuse_if_too_big(needs, settings, layout.alive)
    say(needs.tell(layout.alive))
    if settings.seeds > 1:
        say(str(layout))
    return settings, program, layout


def decide(settings: Config, needs: memory_plan.Plan, has_processes: bool) -> Layout:
    """How seeds are laid out: over all devices where several processes have come together.

    has_processes: whether the world's simulators are processes already, which all seeds share.
    """
    if not multiprocess.several():
        cores = 1 if has_processes else len(seed_layout.cores())
        return seed_layout.decide(settings, needs, jax.default_backend(), jax.device_count(), cores)
    if settings.seeds_mode not in ("auto", "vmap"):
        raise SettingError(f"seeds_mode is {settings.seeds_mode!r}, expected vmap, since several processes share seeds")
    if settings.devices is not None:
        raise SettingError(f"devices is {settings.devices}, expected none, since every process has all of its own")
    count = jax.process_count()
    return Layout("vmap", -(-settings.seeds // count), f"on each of {count} processes")


def finish(settings: Config, program: Program, layout: Layout, folder: Path, say: Callable[[str], None]) -> Result:
    """Train to the end, in the layout that was decided."""
    try:
        if layout.mode == "vmap":
            return loop.finish(settings, program, folder, say)
        return seed_layout.apart(settings, program, layout, folder, say)
    finally:
        if program.host:
            program.host.close()
