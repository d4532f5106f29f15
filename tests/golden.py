"""Golden rows: what a tiny run of every part computes, kept in tests/data/golden.json with the versions it is of.

`python -m tests.golden [PART ...]` remakes them, all or those of some parts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "data" / "golden.json"
# Larger than what another compiler or processor changes, smaller than what any change of a formula does.
RELATIVE, ABSOLUTE = 2e-4, 1e-5
ITERATIONS = 5
Rows = dict[str, list[float]]  # by quantity, a number for each iteration or step

# The part under test is in a cell with the simplest others. Options make it act within five iterations.
EARLY = {
    "snp": {"sharing__ratio": 0.5},
    "redo": {"sharing__T": 1, "sharing__every_updates": 2, "sharing__tau": 0.8},
    "kaleidoscope": {"sharing__reset_steps": 6},
    "rmix": {"decomposition__quantile_after": 0, "decomposition__quantile_every": 2},
    "gradps": {"sharing__T": 1, "sharing__alpha": 0.999},
}
EARLY |= dict.fromkeys(("gradps_as_printed", "gradps_random", "gradps_oracle"), EARLY["gradps"])
EARLY |= {"gradps_as_released": {"sharing__T": 1}, "kaleidoscope_deep": EARLY["kaleidoscope"]}
WORLDS: dict[str, dict[str, Any]] = {
    "two_step": {},
    "pp_small": {"height": 5, "width": 5, "n_agents": 3, "n_special": 1, "n_stags": 2, "n_hares": 1, "view_radius": 1},
    "mpe_simple_spread": {},
    "smax_3m": {},
    "battle_custom": {},
    "jaxmarl_switch_riddle": {},
}
TINY = {"rollout__worlds": 4, "learner__updates_per_episode": 0.25, "learner__batch_episodes": 4}


def subjects() -> dict[str, Callable[[], tuple[Rows, dict[str, int]]]]:
    """Every part, and what makes its rows with the versions of all parts that they depend on."""
    from gpgrad import envs
    from gpgrad.methods import registry

    found: dict[str, Callable[[], tuple[Rows, dict[str, int]]]] = {"learner": lambda: cell("vdn", "fups_id", "none")}
    for name in registry.names("decomposition"):
        found[f"decomposition.{name}"] = lambda name=name: cell(name, "fups_id", "none")
    for name in registry.names("sharing"):
        found[f"sharing.{name}"] = lambda name=name: cell("vdn", name, "none")
    for name in registry.names("weighting"):
        found[f"weighting.{name}"] = lambda name=name: cell("vdn", "fups_id", name)
    for name, options in WORLDS.items():
        found[f"env.{envs.family(name)}"] = lambda name=name, options=options: world(name, options)
    return found


def cell(decomposition: str, sharing: str, weighting: str) -> tuple[Rows, dict[str, int]]:
    """Five iterations of a tiny run, each with an update and an end of the target's period."""
    import jax
    import jax.numpy as jnp

    from gpgrad.config import numerics
    from gpgrad.learning import initial, iteration
    from gpgrad.learning.compose import compose
    from gpgrad.methods import registry
    from tests.helpers.probe_envs import Probe
    from tests.helpers.tiny_runs import tiny

    class Roles(Probe):
        """Agents that differ, for schemes that group by roles."""

        def roles(self, params):
            del params
            return jnp.arange(2)

    weights = {} if weighting == "none" else {"weighting__k": 3, "weighting__star_weight": 3.0}
    early = EARLY.get(sharing, {}) | EARLY.get(decomposition, {})
    if "episodes" in registry.options("sharing", sharing):  # of schemes that group once
        early |= {"sharing__episodes": 4}
    options = {"sharing": sharing, "weighting": weighting, **TINY, **early, **weights}
    if sharing not in ("fups", "fups_id"):  # two agents that see the same
        options["agent__agent_id"] = True
    settings = tiny(decomposition, "matrix_gpvd", **options)
    parts = compose(settings, Roles("memory"))
    states = jax.jit(jax.vmap(initial.make_init(settings, parts)))(jnp.zeros(1, jnp.int32))
    chunk, clock = jax.jit(iteration.make_chunk(settings, parts)), initial.start_clock()
    rows: Rows = {}
    for _ in range(ITERATIONS):
        clock, states = chunk(clock, states, 1)
        sums = states.stats.items()
        numbers = {name: np.sum(value) for name, value in sums if name != "nonfinite_updates"}  # of no part
        numbers |= {"params": squares((states.params, states.target)), "sharing": squares(states.sharing)}
        numbers["returns"] = np.asarray(states.replay.reward).sum()
        for name, value in numbers.items():
            rows.setdefault(name, []).append(float(value))
    used = {part: version for part, version in numerics.versions(settings).items() if not part.startswith("env.")}
    return rows, used


def squares(tree: Any) -> float:
    """The sum of squares of all finite numbers in a tree."""
    import jax

    numbers = [leaf for leaf in jax.tree.leaves(tree) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    leaves = [np.asarray(leaf, np.float64) for leaf in numbers]
    return sum(float(np.square(leaf[np.isfinite(leaf)]).sum()) for leaf in leaves)


def world(name: str, options: Mapping[str, Any]) -> tuple[Rows, dict[str, int]]:
    """An episode of random available actions: sums of rewards, observations, states and available actions by step."""
    import jax
    import jax.numpy as jnp

    from gpgrad import envs
    from gpgrad.config import numerics
    from gpgrad.envs.api import OneHot

    env = envs.make(name, **options)
    params = env.params(jax.random.key(0))

    def step(state, key):
        view = env.view(params, state)
        scores = jnp.where(view.avail, jax.random.uniform(key, view.avail.shape), -1.0)
        after = env.step(key, params, state, jnp.argmax(scores, -1))
        whole = view.state.dense() if isinstance(view.state, OneHot) else view.state
        weigh = lambda x: jnp.sum(x.reshape(-1) * jnp.linspace(1.0, 2.0, x.size))
        return after.state, jnp.stack([after.reward, weigh(view.obs), weigh(whole), weigh(view.avail)])

    def episode(key):
        k_reset, k_steps = jax.random.split(key)
        return jax.lax.scan(step, env.reset(k_reset, params), jax.random.split(k_steps, 10))[1]

    table = np.asarray(jax.jit(episode)(jax.random.key(1)), float)
    part = f"env.{envs.family(name)}"
    rows = dict(zip(("reward", "obs", "state", "avail"), table.T.tolist(), strict=True))
    return rows, {part: numerics.version_of(envs.module(name))}


def judge(part: str, stored: Mapping[str, Any], rows: Rows, versions: Mapping[str, int], file: str) -> str:
    """What is wrong with a part's rows, one sentence; empty if they are those that are kept."""
    again = f"remake its golden rows with `python -m tests.golden {part}`"
    if part not in stored:
        return f"{part} has no golden rows: {again}"
    kept = stored[part]
    if kept["versions"] != dict(versions):
        return (
            f"the golden rows of {part} are of versions {kept['versions']} and the code has {dict(versions)}: {again}"
        )
    if kept["rows"].keys() != rows.keys():
        return f"{part} logs other quantities than before ({sorted(kept['rows'].keys() ^ rows.keys())}): {again}"
    far, where = max((distance(kept["rows"][name], values), name) for name, values in rows.items())
    if far <= 1:
        return ""
    return (
        f"{part} computes other numbers than before ({where} is {far:.3g} times as far off as rounding may bring it): "
        f"raise NUMERICS in {file}, add a line to NUMERICS.md and {again}, or repair the change"
    )


def distance(one: list[float], other: list[float]) -> float:
    """The largest difference in units of what rounding may change; infinite for other lengths or what is not finite."""
    if len(one) != len(other) or not np.isfinite([*one, *other]).all():
        return np.inf
    a, b = np.asarray(one), np.asarray(other)
    return float(np.max(np.abs(a - b) / (ABSOLUTE + RELATIVE * np.maximum(np.abs(a), np.abs(b)))))


def main(names: list[str]) -> int:
    """Write the rows of these parts, or of all."""
    known = subjects()
    stored = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for name in names or known:
        rows, versions = known[name]()
        stored[name] = {"versions": versions, "rows": rows}
        kept = {name: stored[name] for name in known if name in stored}
        lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(content)}" for part, content in kept.items())
        FILE.write_text(f"{{\n{lines}\n}}\n")
        print(name)
    return 0


if __name__ == "__main__":
    import tests.conftest  # noqa: F401  # compiles as the tests do

    sys.exit(main(sys.argv[1:]))
