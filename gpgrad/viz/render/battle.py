"""Frames of a battle: units as discs, health and shields as arcs, shots, heals, beams and bursts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.battles.actions import MOVES, N_NO_TARGET
from gpgrad.envs.battles.env import Battle
from gpgrad.envs.battles.scenarios.maps import BOARD
from gpgrad.envs.battles.scenarios.units import BEAM, BEAM_DEPTH, BEAM_LENGTH, BURST, BURST_REACH, HEAL, UNITS, Unit
from gpgrad.envs.battles.state import unpack
from gpgrad.plots.board import GAIN, GROUPS, LOSS
from gpgrad.plots.style import STYLE, require
from gpgrad.viz.render.agent_colours import Grouping
from gpgrad.viz.render.episode import Episode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 100
SIDE = 4.6  # inches of the longer side of the visible part of the board
HEAD, FOOT = 0.42, 0.34  # inches above and below it
MARGIN = 2.0  # cells around all units
ENEMY, WALL, SHIELD = "#6d6d6d", "#d9d4cb", "#56B4E9"
OURS = GROUPS[:-1]  # without the last, which is grey as are enemies
HEALING, FIRE = GAIN, LOSS


class Moment(NamedTuple):
    """Units of one state, each [N]. aims: target of attacks in the step before, -1 for none."""

    x: np.ndarray
    y: np.ndarray
    alive: np.ndarray
    health: np.ndarray
    shield: np.ndarray
    aims: np.ndarray
    kinds: list[Unit]


def moment(env: Battle, state: Any) -> Moment:
    """The drawn quantities of a state."""
    field = jax.device_get(unpack(env.rules, jax.tree.map(jnp.asarray, state)))
    types = env.rules.types if state.types is None else np.asarray(state.types)
    assert types is not None
    kinds = [UNITS[env.rules.kinds[int(number)]] for number in types]
    most = np.array([unit.shield for unit in kinds])
    return Moment(
        x=field.x,
        y=field.y,
        alive=field.alive,
        health=field.health / [unit.health for unit in kinds],
        shield=np.where(most > 0, field.shield / np.maximum(most, 1), 0.0),
        aims=np.where(field.attacks, field.target, -1),
        kinds=kinds,
    )


def frames(env: Battle, episode: Episode, grouping: Grouping, heading: str) -> Iterator[np.ndarray]:
    """One frame uint8 [H, W, 3] per state, with attacks of the last tick and the next moves of allied units."""
    matplotlib = require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    moments = [moment(env, episode.state(t)) for t in range(episode.length + 1)]
    low, high = _window(moments)
    width, height = SIDE * (high - low) / max(high - low)
    total = HEAD + height + FOOT
    figure = Figure((width + 0.2, total), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        for t, now in enumerate(moments):
            figure.clear()
            place = figure.add_axes((0.1 / (width + 0.2), FOOT / total, width / (width + 0.2), height / total))
            place.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
            for spine in place.spines.values():
                spine.set_visible(True)
            _draw_terrain(place, env)
            if t < episode.length:
                _draw_moves(place, env, now, episode.actions[t])
            _draw_shots(place, env, moments[max(t - 1, 0)], now)
            _draw_units(place, env, now, grouping)
            left = 0.1 / (width + 0.2)
            figure.text(left, 1 - 0.06 / total, heading, va="top", fontsize=8)
            count = f"step {t} of {episode.length}" if t < episode.length else f"end after {episode.length} steps"
            earned = float(episode.reward[:t].sum())
            figure.text(left, 1 - 0.24 / total, f"{count}; return {earned:.3g}", va="top", fontsize=8)
            figure.text(left, 0.06 / total, _key(env, now, grouping), va="bottom", fontsize=7)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _window(moments: list[Moment]) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right corner, in cells, of the area that contains all units."""
    places = np.concatenate([np.stack([m.x, m.y], -1) for m in moments])
    low = np.floor(np.maximum(places.min(0) - MARGIN, -MARGIN))
    return low, np.ceil(np.maximum(np.minimum(places.max(0) + MARGIN, BOARD + MARGIN), low + 8))


def _draw_terrain(place: Axes, env: Battle) -> None:
    from matplotlib.colors import ListedColormap

    blocked = np.ma.masked_where(env.rules.walkable, np.ones(env.rules.walkable.shape))
    place.imshow(blocked, origin="lower", extent=(0, BOARD, 0, BOARD), cmap=ListedColormap([WALL]), zorder=0)


def _draw_moves(place: Axes, env: Battle, now: Moment, actions: np.ndarray) -> None:
    for agent, action in enumerate(actions):
        unit = env.agent_units[agent]
        if now.alive[unit] and 2 <= action < N_NO_TARGET:
            dx, dy = MOVES[action - 2] * (now.kinds[unit].radius + 0.5)
            x, y = now.x[unit], now.y[unit]
            place.plot([x, x + dx], [y, y + dy], color="black", linewidth=0.8, zorder=2)


def _draw_shots(place: Axes, env: Battle, before: Moment, now: Moment) -> None:
    from matplotlib.patches import Circle, Rectangle

    for unit in np.flatnonzero(now.aims >= 0):
        kind, victim = now.kinds[unit], now.aims[unit]
        x, y, to_x, to_y = (float(z) for z in (now.x[unit], now.y[unit], now.x[victim], now.y[victim]))
        colour = HEALING if kind.strike == HEAL else FIRE if _is_ours(env, int(unit)) else ENEMY
        place.plot([x, to_x], [y, to_y], color=colour, linewidth=1.6 if kind.strike == HEAL else 0.9, zorder=3)
        if kind.strike == BEAM:
            angle = np.degrees(np.arctan2(to_y - y, to_x - x))
            corner = (to_x - BEAM_DEPTH / 2, to_y - BEAM_LENGTH / 2)
            beam = Rectangle(corner, BEAM_DEPTH, BEAM_LENGTH, angle=angle, rotation_point="center")
            beam.set(facecolor=FIRE, alpha=0.6, zorder=3)
            place.add_patch(beam)
    for unit in np.flatnonzero(before.alive & ~now.alive):
        if now.kinds[unit].strike == BURST:
            middle = float(now.x[unit]), float(now.y[unit])
            place.add_patch(Circle(middle, BURST_REACH, color=FIRE, alpha=0.25, zorder=1))


def _draw_units(place: Axes, env: Battle, now: Moment, grouping: Grouping) -> None:
    from matplotlib.patches import Arc, Circle

    agents = {int(unit): agent for agent, unit in enumerate(env.agent_units)}
    for unit, kind in enumerate(now.kinds):
        x, y, radius = float(now.x[unit]), float(now.y[unit]), kind.radius
        agent = agents.get(unit)
        colour = ENEMY if agent is None else OURS[grouping.groups[agent] % len(OURS)]
        if not now.alive[unit]:
            place.plot(x, y, marker="x", color=colour, markersize=4, markeredgewidth=0.8, zorder=1)
            continue
        disc = Circle((x, y), radius, facecolor=colour, edgecolor="white", linewidth=0.5, zorder=4)
        disc.set_alpha(0.75 if kind.flies else 1.0)
        place.add_patch(disc)
        place.text(x, y, kind.letter, ha="center", va="center_baseline", color="white", fontsize=6, zorder=6)
        arcs = [(now.health[unit], radius, "black")]
        if kind.shield:
            arcs.append((now.shield[unit], radius + 0.14, SHIELD))
        for share, distance, line in arcs:
            if share > 0:
                arc = Arc((x, y), 2 * distance, 2 * distance, angle=90, theta1=-360 * share, theta2=0, color=line)
                arc.set(linewidth=1.2, zorder=5)
                place.add_patch(arc)


def _is_ours(env: Battle, unit: int) -> bool:
    return env.rules.ours.start <= unit < env.rules.ours.stop


def _key(env: Battle, now: Moment, grouping: Grouping) -> str:
    """The explanation of letters and colours."""
    kinds = {unit.letter: unit.name.replace("_", " ") for unit in now.kinds}
    words = ", ".join(f"{letter} {name}" for letter, name in kinds.items())
    return f"{words}; enemies grey" + (f"; {grouping.words}" if grouping.words else "")
