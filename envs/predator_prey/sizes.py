"""Valid sizes of predator-prey boards, and their largest return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpgrad.errors import SettingError

if TYPE_CHECKING:
    from gpgrad.envs.predator_prey.env import PredatorPrey

STAG_CATCHERS = 2  # a hare needs one


def best_return(env: PredatorPrey) -> float:
    """The largest return: all possible captures at their highest reward; 1 if there is no positive reward."""
    ordinary, special = env.hare_reward, max(env.price(is_stag=False, special=True), env.hare_reward)

    def earned(stags: int, hunters: int) -> float:
        hares = min(env.n_hares, hunters)
        best = min(hares, env.n_special) if env.freeze else hares * (env.n_special > 0)
        return env.stag_reward * stags + special * best + ordinary * (hares - best)

    most_stags = env.n_stags if env.n_agents >= STAG_CATCHERS else 0
    if not env.freeze:
        return earned(most_stags, hunters=env.n_hares) or 1.0
    # Every capture uses up its catchers, so predators are divided between stags and hares.
    most_stags = min(most_stags, env.n_agents // STAG_CATCHERS)
    return max(earned(s, hunters=env.n_agents - STAG_CATCHERS * s) for s in range(most_stags + 1)) or 1.0


def parse_ids(text: str) -> list[int]:
    """The numbers of a list such as "2,3". Raises SettingError."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SettingError(f"special_ids must be predator numbers such as '2,3' (got {text!r})") from None


def check(env: PredatorPrey) -> None:
    """Raise SettingError for the first invalid size."""
    lowest = {"height": 1, "width": 1, "n_agents": 1, "n_stags": 0, "n_hares": 0, "n_special": 0}
    for field, low in (lowest | {"view_radius": 0, "episode_limit": 1}).items():
        if getattr(env, field) < low:
            raise SettingError(f"{field} must be at least {low} (got {getattr(env, field)})")
    for field, high in (("height", 127), ("width", 127), ("episode_limit", 32767)):
        if getattr(env, field) > high:
            raise SettingError(f"{field} must be at most {high} (got {getattr(env, field)})")
    if env.n_prey < 1:
        raise SettingError("n_stags + n_hares must be at least 1 (got 0)")
    entities, cells = env.n_agents + env.n_prey, env.height * env.width
    if entities > cells:
        raise SettingError(
            f"{env.n_agents} predators and {env.n_prey} prey do not fit on {env.height} x {env.width} cells; they "
            f"must be at most {cells} together"
        )
    if env.n_special > env.n_agents:
        raise SettingError(f"n_special must be at most n_agents = {env.n_agents} (got {env.n_special})")
    if env.special_ids:
        ids = parse_ids(env.special_ids)
        if len(set(ids)) != env.n_special or len(ids) != env.n_special:
            raise SettingError(
                f"special_ids must be n_special = {env.n_special} different numbers (got {env.special_ids!r})"
            )
        if min(ids) < 0 or max(ids) >= env.n_agents:
            raise SettingError(f"special_ids must be numbers from 0 to {env.n_agents - 1} (got {env.special_ids!r})")
