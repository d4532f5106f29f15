"""Rendering of a trained team's episode as GIF or MP4. Imports matplotlib only when something is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad import config
from gpgrad.envs.battles.env import Battle
from gpgrad.envs.external.env import ExternalEnv
from gpgrad.envs.matrix import MatrixGame, NStepGame, TwoStepGame
from gpgrad.envs.mpe import Mpe
from gpgrad.envs.predator_prey.env import PredatorPrey
from gpgrad.envs.smax.env import Smax
from gpgrad.errors import SettingError
from gpgrad.policies.load import TrainedTeam, load_team
from gpgrad.viz.render import battle, external, matrix, predator_prey, simulators
from gpgrad.viz.render.agent_colours import Grouping, grouping
from gpgrad.viz.render.episode import Episode, play
from gpgrad.viz.render.write import check, write

__all__ = ["Episode", "Grouping", "check", "frames", "grouping", "play", "render", "write"]

MATRIX = (MatrixGame, TwoStepGame, NStepGame)
FPS = {PredatorPrey: 5.0, Battle: 6.0, Smax: 6.0, Mpe: 6.0, **dict.fromkeys(MATRIX, 1.0)}
OTHERS = 6.0


def render(
    source: Path, out: Path, seed: int | None = None, episode: int = 0, fps: float | None = None, best: bool = False
) -> Episode:
    """Write an episode of a team, as `load_team` finds it. Raises SettingError for unsupported worlds and files."""
    check(out)
    team = load_team(source, seed, best=best)
    env = team.parts.env
    if isinstance(env, ExternalEnv):
        played, drawn = external.film(team, episode, out)
        if drawn:
            write(out, drawn, fps or OTHERS)
        return played
    known = next((pace for kind, pace in FPS.items() if isinstance(env, kind)), None)
    if known is None and not hasattr(env, "draw"):
        raise SettingError(
            f"{team.config.env.name} cannot be drawn; the environment must be predator-prey, a matrix game, a battle, "
            "SMAX, MPE or an external one, or have a method draw(state)"
        )
    pace = fps or known or OTHERS
    played = play(team.parts, team.actor, episode)
    write(out, list(frames(team, played, heading(team, episode))), pace)
    return played


def own_frames(env: Any, episode: Episode) -> Iterator[np.ndarray]:
    """The environment's own pictures: `draw(state)` must return uint8 [H, W, 3]. Raises SettingError otherwise."""
    for t in range(episode.length + 1):
        frame = np.asarray(env.draw(episode.state(t)))
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            got = f"{frame.dtype} {list(frame.shape)}"
            raise SettingError(f"draw of {env.spec.name} must return a picture uint8 [H, W, 3] (got {got})")
        yield frame


def heading(team: TrainedTeam, episode: int) -> str:
    """The heading of the frames."""
    when = "" if team.steps is None else f" after {team.steps:,} steps"
    return f"{config.label(team.config)} on {team.config.env.name}{when}, seed {team.seed}, episode {episode}"


def frames(team: TrainedTeam, episode: Episode, words: str) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] of an episode, all of one size."""
    env = team.parts.env
    if hasattr(env, "draw"):
        return own_frames(env, episode)
    if isinstance(env, MATRIX):
        return matrix.frames(episode, words)
    if isinstance(env, Smax):
        return simulators.smax_frames(env, episode, words)
    if isinstance(env, Mpe):
        return simulators.mpe_frames(env, episode, words)
    groups = team.parts.sharing.report(team.actor.params.agent, team.actor.sharing).get("groups")
    shared = grouping(None if groups is None else np.asarray(groups), env.spec.n_agents)
    if isinstance(env, Battle):
        return battle.frames(env, episode, shared, words)
    assert isinstance(env, PredatorPrey)
    return predator_prey.frames(env, team.actor.env_params, episode, shared, words)
