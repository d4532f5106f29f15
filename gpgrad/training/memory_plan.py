"""How much memory a run needs, estimated and checked before anything is allocated."""

from __future__ import annotations

from typing import NamedTuple

import jax

from gpgrad.config.schema import Config
from gpgrad.errors import SettingError
from gpgrad.learning import replay
from gpgrad.learning.initial import example_episode, make_init
from gpgrad.learning.program import Program
from gpgrad.training import memory

GIB = 2**30
# Floats alive per agent and step of an update, in units of inputs and of hidden width: counted from the buffers of
# the compiled program, rounded up.
_INPUT_COPIES, _HIDDEN_COPIES = 3, 24


class Plan(NamedTuple):
    """Bytes of one seed: an episode, its replay, its other state, an update's work; and bytes free for all seeds.

    env_state: bytes of a stored state of the environment, of which an episode has one more than it has steps.
    """

    episode: int
    replay: int
    state: int
    work: int
    free: int
    env_state: int = 0

    @property
    def one(self) -> int:
        """All that a seed needs."""
        return self.replay + self.state + self.work

    def sentence(self, alive: int) -> str:
        """A sentence on the memory needed when `alive` seeds are trained at once."""
        who = f"{alive} seeds need" if alive > 1 else "1 seed needs"
        return (
            f"memory: replay {show(self.replay)} a seed ({show(self.episode)} an episode, "
            f"{show(self.env_state)} a state of the environment), "
            f"other state {show(self.state)}, update about {show(self.work)}; "
            f"{who} {show(alive * self.one)} of {show(self.free)} free"
        )


def show(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def make_plan(config: Config, program: Program) -> Plan:
    """Count what one seed needs from the shapes alone; the work of an update is an estimate."""
    parts = program.parts
    example = example_episode(parts)
    stored = replay.nbytes(example, config.replay.capacity)
    shapes = jax.eval_shape(make_init(config, parts), jax.ShapeDtypeStruct((), jax.numpy.int32))
    everything = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    spec, agent = parts.env.spec, parts.agent
    floats = _INPUT_COPIES * agent.n_inputs + _HIDDEN_COPIES * agent.n_hidden
    episode = replay.nbytes(example, 1)
    work = 4 * (spec.episode_limit + 1) * config.learner.batch_episodes * spec.n_agents * floats
    # A test keeps its episodes, and of the step at hand what acting needs.
    tested = max(config.evaluation.episodes, config.evaluation.final_episodes)
    work = max(work, tested * (episode + 4 * spec.n_agents * floats))
    env_state = sum(leaf.size // leaf.shape[0] * leaf.dtype.itemsize for leaf in jax.tree.leaves(example.states))
    return Plan(episode, stored, everything - stored, work, memory.free_bytes(), env_state)


def shared(plan: Plan, n_devices: int) -> Plan:
    """What a seed needs on each of the devices that share its batches and its replay."""
    return plan._replace(replay=plan.replay // n_devices, work=plan.work // n_devices)


def refuse_if_too_big(plan: Plan, config: Config, alive: int) -> None:
    """Raise SettingError with the numbers and the settings that would fit, with so many seeds alive at once."""
    one, total = plan.one, alive * plan.one
    if total <= plan.free:
        return
    ways = []
    if plan.free >= one:
        ways.append(f"--seeds {plan.free // one}")
        ways.append("--seeds-mode sequential")
    room = plan.free // alive - plan.state - plan.work
    unit = config.rollout.worlds
    capacity = room // plan.episode // unit * unit
    if capacity > 0 and capacity >= config.learner.batch_episodes:
        # Where the replay takes the most, as with pixels, fewer seeds are the wrong end to begin with.
        ways.insert(0 if plan.replay > plan.state + plan.work else len(ways), f"--replay.capacity {capacity}")
    raise SettingError(
        f"the run needs {show(total)} ({alive} x {show(one)}, of which replay {show(plan.replay)}) "
        f"but {show(plan.free)} are free; "
        + (" or ".join(ways) + " would fit" if ways else "a smaller learner.batch_episodes or world is needed")
    )
