"""All settings of a run: names, types, defaults and help texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


def setting(default: Any, help: str) -> Any:
    """A dataclass field with a help text."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Part:
    """A chosen environment, decomposition, sharing scheme or weighting with all of its settings."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Agent:
    """The agents' network and inputs."""

    hidden: int = setting(64, "width of the dense layers and of the GRU")
    layers: int = setting(1, "dense layers before the GRU")
    agent_id: bool | None = setting(
        None, "one-hot agent id as an input; none: as the sharing scheme requires, fups never, fups_id always"
    )
    last_action: bool = setting(True, "one-hot last action as an input")
    init: Literal["torch", "flax"] = setting("torch", "initialisers, those of PyTorch or of flax")


@dataclass(frozen=True)
class Learner:
    """Gradient steps and targets."""

    optimiser: Literal["rmsprop", "adam", "sgd"] = setting("rmsprop", "optimiser, with PyTorch's arithmetic")
    lr: float = setting(5e-4, "learning rate")
    clip: float = setting(10.0, "global norm to which gradients are clipped")
    gamma: float = setting(0.99, "discount factor")
    td_lambda: float = setting(0.0, "lambda of the returns; 0 is the one-step target")
    double_q: bool = setting(True, "double Q-learning: the online network selects the next action")
    loss_factor: float = setting(1.0, "factor of the squared TD error")
    reward_scale: float = setting(1.0, "factor of rewards in the loss; logged returns are unscaled")
    batch_episodes: int = setting(32, "episodes in a gradient step")
    updates_per_episode: float = setting(1.0, "gradient steps per collected episode")
    target_every_episodes: int = setting(200, "episodes between copies of the target network")
    stop_on_nan: bool = setting(True, "stop seeds whose loss or gradient is no longer finite; their rows are kept")


@dataclass(frozen=True)
class Replay:
    """Replay of episodes."""

    capacity: int = setting(5000, "episodes in the replay; the oldest are overwritten first")


@dataclass(frozen=True)
class Rollout:
    """Collection of episodes."""

    worlds: int = setting(1, "parallel environments, each with one episode per collection")
    start: float = setting(1.0, "first epsilon")
    finish: float = setting(0.05, "last epsilon")
    anneal_steps: int = setting(50_000, "environment steps over which epsilon decreases linearly")


@dataclass(frozen=True)
class Evaluation:
    """Greedy tests, the first before training."""

    episodes: int = setting(32, "episodes in a test")
    every_steps: int = setting(10_000, "environment steps between tests, rounded up to whole episodes of full length")
    every_episodes: int | None = setting(None, "episodes between tests, instead of every_steps")
    final_episodes: int = setting(200, "fresh episodes in the final test")
    gradient_flow: bool = setting(
        False, "log the effect of every joint action on utilities; one-step matrix games only"
    )


@dataclass(frozen=True)
class Log:
    """Output of a run; no setting here changes a number."""

    dir: str = setting("runs", "folder of all runs")
    name: str | None = setting(None, "name of the run's folder; default: environment, algorithm, hash and time")
    to: tuple[Literal["jsonl", "wandb", "tensorboard", "csv"], ...] = setting(
        ("jsonl", "wandb"), "loggers, separated by commas; jsonl, from which results are read, is always on"
    )
    wandb: Literal["auto", "online", "offline", "disabled"] = setting(
        "auto", "mode of wandb; auto: online if an API key is set, else offline"
    )
    project: str = setting("gpgrad", "wandb project")


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoints to resume from; no setting here changes a number."""

    every_minutes: float = setting(5.0, "minutes between checkpoints")
    keep: int = setting(2, "number of newest checkpoints kept")
    keep_best: bool = setting(False, "keep the team of each seed's best test too, for eval, render and export --best")


@dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    env: Part
    algo: str
    preset: str
    decomposition: Part
    sharing: Part
    weighting: Part
    seeds: int = setting(1, "number of seeds")
    seed: int = setting(0, "first seed; the others follow")
    seeds_mode: Literal["auto", "vmap", "sequential", "process"] = setting(
        "auto", "seeds in one program, one after another, or as single-core processes; auto chooses and prints why"
    )
    devices: int | None = setting(
        None, "devices of one program; none: as many as seeds can use; on a CPU at most one for each core"
    )
    shard: Literal["auto", "seeds", "batch"] = setting(
        "auto",
        "what devices share: the seeds, or the batch of every seed; auto: seeds, or the batch if `devices` is set and "
        "seeds cannot be spread evenly",
    )
    t_max: int = setting(2_050_000, "environment steps per seed; a run ends at the first test after them")
    init_from: str | None = setting(None, "folder of a finished run; training starts from its teams")
    plugin: tuple[str, ...] = setting((), "plugin modules that register parts or environments")
    agent: Agent = field(default_factory=Agent)
    learner: Learner = field(default_factory=Learner)
    replay: Replay = field(default_factory=Replay)
    rollout: Rollout = field(default_factory=Rollout)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log: Log = field(default_factory=Log)
