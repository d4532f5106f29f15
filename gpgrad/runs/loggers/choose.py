"""The loggers that the settings of a run ask for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.runs.loggers.csv_files import CsvLogger
from gpgrad.runs.loggers.guard import Guarded
from gpgrad.runs.loggers.tensorboard import TensorboardLogger
from gpgrad.runs.loggers.wandb_runs import WandbLogger, mode_of
from gpgrad.runs.logs import Row


def require(config: Config) -> None:
    """Check `log.to` before any work. Raises SettingError for a contradiction and for a package that is missing."""
    log = config.log
    if "wandb" not in log.to and log.wandb in ("online", "offline"):
        raise SettingError(
            f"log.wandb is {log.wandb!r}, but log.to has no wandb; must be --log.to {','.join((*log.to, 'wandb'))}, or "
            f"leave out log.wandb"
        )
    if "tensorboard" in log.to and importlib.util.find_spec("tensorboardX") is None:
        raise SettingError(
            "log.to has tensorboard, but tensorboardX is not installed: pip install 'gpgrad[tensorboard]'"
        )


def choose(config: Config, run: Path, folder: Path, settings: Row, earlier: Sequence[Row]) -> list[Guarded]:
    """All loggers but JSON lines, each with a guard of its own.

    run: the run's folder. folder: the same, or that of a single seed. settings: by dotted names. earlier: the rows of a
    resumed run up to its checkpoint.
    """
    log, seeds = config.log, range(config.seed, config.seed + config.seeds)
    mode = mode_of(log.wandb)
    makers = {
        "wandb": partial(WandbLogger, mode, log.project, run, seeds, settings, folder, earlier),
        "tensorboard": partial(TensorboardLogger, run, earlier),
        "csv": partial(CsvLogger, run, earlier),
    }
    wanted = [name for name in makers if name in log.to and (name != "wandb" or mode != "disabled")]
    return [Guarded(name, makers[name]) for name in wanted]
