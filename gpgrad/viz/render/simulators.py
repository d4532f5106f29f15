"""Frames of JaxMARL's environments, drawn by its own visualisers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs import jaxmarl_import
from gpgrad.envs.mpe import Mpe
from gpgrad.envs.smax.battle import STOP
from gpgrad.envs.smax.env import Smax
from gpgrad.envs.smax.rules import SMAX, scenario
from gpgrad.plots.style import require
from gpgrad.viz.render.episode import Episode

DPI = 72


def smax_frames(env: Smax, episode: Episode, heading: str) -> Iterator[np.ndarray]:
    """One frame per state, with the next step's shots halfway to their targets.

    Allies are blue, enemies green; units under attack are lighter.
    """
    require()
    smax, game = jaxmarl_import.load(SMAX), _game(env)
    canvas, place = canvas_of((5.0, 5.3))
    half = game.world_steps_per_env_step // 2
    for t in range(episode.length + 1):
        orders = episode.state(t + 1).action if t < episode.length else [STOP] * env.rules.n_units
        shots = dict(zip(game.agents, np.asarray(orders).astype(int), strict=True))
        now = _smax_state(env, smax, episode.state(t))
        with jax.disable_jit():  # jit would recompile branches for every unit
            laid = game.init_render(place, (None, now, shots), half, t)
        laid.remove()  # the previous drawing, an image of another shape over the field
        place.set(xlim=(0, game.map_width), ylim=(0, game.map_height), aspect="equal", xticks=[], yticks=[])
        place.set_title(f"{heading}\nstep {t} of {episode.length}; return {_earned(episode, t):.3g}", fontsize=9)
        yield image(canvas)


def mpe_frames(env: Mpe, episode: Episode, heading: str) -> Iterator[np.ndarray]:
    """One frame per state."""
    require()
    module = jaxmarl_import.load("environments.mpe.mpe_visualizer")
    states = [env.restore(episode.state(t)) for t in range(episode.length + 1)]
    from matplotlib import pyplot

    with jaxmarl_import.silence():
        shown = module.MPEVisualizer(env.game, states)
    figure = shown.fig
    canvas = _agg(figure)
    figure.set_dpi(DPI)
    try:
        for t in range(episode.length + 1):
            shown.update(t)
            shown.ax.set_title(f"{heading}\nreturn {_earned(episode, t):.3g}", fontsize=9)
            yield image(canvas)
    finally:
        pyplot.close(figure)


def _game(env: Smax) -> Any:
    """JaxMARL's environment without the scripted opponent."""
    return jaxmarl_import.load(SMAX).SMAX(scenario=scenario(env.map))


def _smax_state(env: Smax, smax: Any, state: Any) -> Any:
    """A battle as JaxMARL's state."""
    rules = env.rules
    types = rules.types if state.types is None else state.types
    health = jnp.asarray(state.health, jnp.float32)
    return smax.State(
        unit_positions=jnp.stack([jnp.asarray(state.x), jnp.asarray(state.y)], -1),
        unit_alive=health > 0,
        unit_teams=jnp.arange(rules.n_units) >= rules.n_allies,
        unit_health=health,
        unit_types=jnp.asarray(types),
        unit_weapon_cooldowns=jnp.asarray(state.cooldown),
        prev_movement_actions=jnp.zeros((rules.n_units, 2)),
        prev_attack_actions=jnp.asarray(state.action, jnp.int32),
        done=jnp.zeros((), bool),
        step=jnp.asarray(state.time, jnp.int32),
    )


def _earned(episode: Episode, t: int) -> float:
    return float(episode.reward[:t].sum())


def canvas_of(size: tuple[float, float]):
    """An empty figure of a size in inches: its canvas and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=DPI, layout="constrained")
    return _agg(figure), figure.subplots()


def _agg(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure)


def image(canvas) -> np.ndarray:
    """The figure as uint8 [H, W, 3]."""
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
