"""A toy battle with StarCraft2Env's methods and faults on demand. Does not import jax.

Two agents against a fort that hits one of them at each step; which one, agents are shown. Actions: 0 nothing, for
the dead; 1 wait; 2 attack; 3 hide, which the hit misses. All numbers are exact in float32, and every draw follows
from an episode's seed by integer arithmetic, so that the same battle in JAX (`toy_battle.py`) has the same
numbers.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from gpgrad.envs.external.adapters.starcraft import StarcraftSimulator

LIMIT, HEALTH, AGENTS, ACTIONS, WIN = 6, 2, 2, 4, 4.0
FAULTS = ("hang", "crash", "exit", "nan", "shape", "no_action", "hidden_restart", "restart", "reset")


def draw(number: int) -> int:
    return (number * 1664525 + 1013904223) % 2**32


class Skirmish:
    """StarCraft2Env's interface. faults: a folder whose files name faults, which happen in order, each once."""

    def __init__(self, faults: str | None = None, step_at: int = 2) -> None:
        self.force_restarts = 0
        self.faults, self.step_at = faults, step_at
        self.next_seed, self.broken = 0, ""

    def get_env_info(self) -> dict:
        sizes = {"n_agents": AGENTS, "n_actions": ACTIONS, "obs_shape": 5, "state_shape": 5}
        return {**sizes, "episode_limit": LIMIT}

    def reset(self) -> None:
        if self.faults and (Path(self.faults) / "reset").exists():
            self._claim("reset")
        low, high = self.next_seed % 2**32, self.next_seed >> 32
        self.luck = draw(low ^ high)
        self.health = [HEALTH, HEALTH]
        self.fort = 4 + (low >> 8) % 3
        self.time = 0
        self.broken = ""

    def step(self, actions: list[int]) -> tuple[float, bool, dict]:
        avail = self.get_avail_actions()
        assert all(avail[i][action] for i, action in enumerate(actions)), "the action is not available"
        self.time += 1
        if self.time == self.step_at and self._claim():
            return 0.0, True, {}
        attackers = sum(action == 2 for action in actions)
        damage = min(attackers, self.fort)
        self.fort -= damage
        target = self._target()
        won = self.fort == 0
        if not won and self.health[target] > 0 and actions[target] != 3:
            self.health[target] -= 1
        self.luck = draw(self.luck)
        over = won or not any(self.health) or self.time >= LIMIT
        dead = sum(h == 0 for h in self.health)
        return damage + WIN * won, over, {"battle_won": won, "dead_allies": dead, "dead_enemies": int(won)}

    def get_obs(self) -> list[np.ndarray]:
        rows = []
        for i, own in enumerate(self.health):
            row = [own / 2, self.fort / 8, self.time / 8, self.health[1 - i] / 2, float(self._target() == i)]
            rows.append(np.array(row if own else [0.0] * 5, np.float32))
        if self.broken == "nan":
            rows[0][0] = np.nan
        return rows[:1] if self.broken == "shape" else rows

    def get_state(self) -> np.ndarray:
        return np.array([*(h / 2 for h in self.health), self.fort / 8, self.time / 8, self._target()], np.float32)

    def get_avail_actions(self) -> list[list[int]]:
        if self.broken == "no_action":
            return [[0] * ACTIONS] * AGENTS
        return [[0, 1, 1, 1] if h else [1, 0, 0, 0] for h in self.health]

    def close(self) -> None:
        pass

    def save_replay(self) -> None:
        (Path(self.replay_dir) / "battle.SC2Replay").write_text(f"a battle of {self.time} steps")

    def _target(self) -> int:
        return (self.luck >> 16) % 2

    def _claim(self, kind: str | None = None) -> bool:
        """Trigger the next fault, if there is one; true if it only changes the step's result."""
        if not self.faults:
            return False
        names = [kind] if kind else sorted(path.name for path in Path(self.faults).glob("*-*"))
        for name in names:
            try:
                (Path(self.faults) / name).unlink()
            except FileNotFoundError:  # another worker was faster
                continue
            return self._break(name.split("-")[-1])
        return False

    def _break(self, kind: str) -> bool:
        print(f"{kind} on demand", flush=True)
        if kind == "hang":
            time.sleep(10**6)
        if kind in ("crash", "reset"):
            raise RuntimeError("a crash on demand")
        if kind == "exit":
            os._exit(3)
        if kind == "restart":
            self.force_restarts += 1
        self.broken = kind
        return kind == "hidden_restart"


class SkirmishSimulator(StarcraftSimulator):
    """The adapter of StarCraft II, with a seed for each episode. pictures, replays: whether it can make some."""

    def __init__(
        self,
        faults: str | None = None,
        step_at: int = 2,
        ends_early: bool = False,
        pictures: bool = False,
        replays: bool = False,
    ) -> None:
        super().__init__(lambda seed: Skirmish(faults, step_at), {"skirmish": "1"})
        self.sizes = self.sizes._replace(ends_early=ends_early)
        self.frame = (lambda: np.full((2, 3, 4), self._battle.time)) if pictures else (lambda: None)
        if not replays:
            self.save_replay = lambda folder: ""

    def reset(self, seed: int):
        if not self._started:
            self._battle, self._started = self._make(0), True
        self._battle.next_seed = seed
        return super().reset(seed)


def order(folder: Path, kinds: list[str]) -> None:
    """Schedule faults, in this order."""
    folder.mkdir(exist_ok=True)
    for i, kind in enumerate(kinds):
        (folder / ("reset" if kind == "reset" else f"{i:04d}-{kind}")).touch()


class Nothing:
    """A simulator with SMAC's largest arrays and no work, to measure the overhead of the bridge."""

    def __init__(self, agents: int = 27, obs: int = 285, actions: int = 36, state: int = 1170, limit: int = 180):
        from gpgrad.envs.external.protocol import Seen, Sizes

        self.sizes = Sizes(agents, actions, obs, state, limit)
        self._seen = Seen(
            np.zeros((agents, obs), np.float32), np.ones((agents, actions), bool), np.zeros(state, np.float32)
        )
        self._limit, self._time = limit, 0

    def reset(self, seed: int):
        self._time = 0
        return self._seen

    def step(self, actions: list[int]):
        from gpgrad.envs.external.protocol import Outcome

        self._time += 1
        return Outcome(self._seen, 0.0, False, self._time >= self._limit)

    def close(self) -> None:
        pass


class Parent(SkirmishSimulator):
    """Starts a child process, as StarCraft II's interface does, prints its id, then hangs in a step."""

    def __init__(self, note: str) -> None:
        import subprocess

        super().__init__()
        child = subprocess.Popen(["sleep", "600"])
        Path(note).write_text(f"{os.getpid()} {child.pid}")

    def step(self, actions: list[int]):
        time.sleep(10**6)


class Faulty:
    """One agent. changes: to the result of the second step. sizes: changes to its reported sizes."""

    def __init__(self, changes: dict | None = None, sizes: dict | None = None, limit: int = 4) -> None:
        from gpgrad.envs.external.protocol import Sizes

        self.sizes = Sizes(1, 2, 2, 0, limit)._replace(**(sizes or {}))
        self.changes = changes or {}

    def reset(self, seed: int):
        from gpgrad.envs.external.protocol import Seen

        self.time = 0
        return Seen([[0.0, seed]], [[1, 1]])

    def step(self, actions: list[int]):
        from gpgrad.envs.external.protocol import Outcome, Seen

        self.time += 1
        changes = dict(self.changes) if self.time == 2 else {}
        if "raises" in changes:
            raise RuntimeError(changes["raises"])
        seen = Seen(changes.pop("obs", [[0.0, self.time]]), changes.pop("avail", [[1, 1]]))
        return Outcome(seen, **{"reward": 1.0, "truncated": self.time >= 4, **changes})

    def close(self) -> None:
        pass


class Once:
    """Ends after a step, and can be reset once."""

    def __init__(self) -> None:
        from gpgrad.envs.external.protocol import Sizes

        self.sizes, self.used = Sizes(1, 1, 1, 0, 1), False

    def reset(self, seed: int):
        from gpgrad.envs.external.protocol import Seen

        if self.used:
            raise RuntimeError("no second reset")
        self.used = True
        return Seen([[0.0]], [[1]])

    def step(self, actions: list[int]):
        from gpgrad.envs.external.protocol import Outcome, Seen

        return Outcome(Seen([[0.0]], [[1]]), 0.0, True)

    def close(self) -> None:
        pass
