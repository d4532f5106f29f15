"""Where a run's rows are written: JSON lines always, and wandb, TensorBoard and CSV files on request."""

from gpgrad.runs.loggers.base import Logger
from gpgrad.runs.loggers.guard import Guarded
from gpgrad.runs.loggers.jsonl import JsonlLogger
from gpgrad.runs.loggers.sections import sectioned

__all__ = ["Guarded", "JsonlLogger", "Logger", "sectioned"]
