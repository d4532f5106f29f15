"""Sequential depth: how many steps of a program wait for each other, counted in its jaxpr.

An accelerator runs the operations of a step in parallel, but iterations of a loop one after the other, and starts every
kernel separately. Small programs take as long as these take, for one environment or for thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jax.interpreters import partial_eval

from gpgrad.config.schema import Config
from gpgrad.envs import checking
from gpgrad.errors import SettingError
from gpgrad.learning import external_rollout, replay
from gpgrad.learning.compose import compose
from gpgrad.learning.evaluate import make_evaluate
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.iteration import learner_state, make_collection, rearrange, team
from gpgrad.learning.learner import make_draw, make_gradient_step
from gpgrad.types import Clock, SeedState

# Primitives that compilers for accelerators do not fuse with those before and after them, or only as the end of a
# kernel. All others are elementwise or move data, and are fused.
KERNELS = (
    "argmax", "argmin", "approx_top_k", "cholesky", "conv_general_dilated", "cumlogsumexp", "cummax", "cummin",
    "cumprod", "cumsum", "dot_general", "eigh", "gather", "householder_product", "lu", "qr", "random_bits", "reduce",
    "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "rng_bit_generator", "scatter",
    "scatter-add", "scatter_add", "scatter_max", "scatter_min", "scatter_mul", "sort", "svd", "threefry2x32", "top_k",
    "triangular_solve",
)  # fmt: skip


class Depth(NamedTuple):
    """steps: iterations of all loops, those of nested loops included. launches: kernels, at least one per iteration.

    Launches are an estimate: the primitives of `KERNELS`, and one per iteration for all that is fused.
    """

    steps: Any
    launches: Any

    def plus(self, other: Depth) -> Depth:
        """The depth of two parts, one after the other."""
        return Depth(self.steps + other.steps, self.launches + other.launches)

    def times(self, n: Any) -> Depth:
        """The depth of n iterations of a loop with this body."""
        return Depth(n * (self.steps + 1), n * (self.launches + 1))


NOTHING = Depth(0, 0)
PLATFORMS = ("cpu", "cuda")


class Row(NamedTuple):
    """The depth of a part of training on a platform."""

    part: str
    platform: str
    depth: Depth


def table(config: Config, platforms: Sequence[str] = PLATFORMS) -> list[Row]:
    """The depth of each part of training one seed, and of an iteration without tests."""
    rows = []
    pieces = parts_of_training(config)
    for platform in platforms:
        found = {name: depth(function, *args, platform=platform) for name, (function, args) in pieces.items()}
        updates = round(config.rollout.worlds * config.learner.updates_per_episode)
        copies = config.rollout.worlds / config.learner.target_every_episodes
        whole = Depth(
            *(
                collected + updates * update + round(copies * adapted)
                for collected, update, adapted in zip(
                    found["collection"], found["update"], found["adaptation"], strict=True
                )
            )
        )
        rows += [Row(name, platform, one) for name, one in (found | {"iteration": whole}).items()]
    return rows


def parts_of_training(config: Config) -> dict[str, tuple[Callable, tuple]]:
    """Functions with their arguments: a reset and a step of the environments of an iteration, collection, an update,
    adaptation of the sharing at a copy of the target network, its fit after the first episodes, a test.
    """
    checking.refuse_named(config.env.name, config.env.options)
    parts = compose(config)
    if external_rollout.is_external(parts.env):
        raise SettingError(f"bench measures JAX environments only; {config.env.name} is external")
    state: SeedState = jax.jit(make_init(config, parts))(jnp.int32(config.seed))
    stored = jnp.int32(config.learner.batch_episodes)  # of which the replay holds zeros
    clock, zero, env = start_clock()._replace(episodes=stored), jnp.zeros((), jnp.int32), parts.env
    keys = jax.random.split(state.key, config.rollout.worlds)
    collection, gradient_step = make_collection(config, parts), make_gradient_step(parts)
    evaluate = make_evaluate(parts, config.evaluation.episodes)
    worlds = jax.jit(jax.vmap(env.reset, (0, None)))(keys, state.env_params)
    idle = jnp.zeros((len(keys), env.spec.n_agents), jnp.int32)

    def update(state: SeedState, clock: Clock) -> Any:
        episodes = replay.sample(state.key, state.replay, clock.episodes, config.learner.batch_episodes)
        learner = learner_state(state)
        return gradient_step(state.key, clock, learner, state.target, state.env_params, episodes)

    def adaptation(state: SeedState, clock: Clock) -> Any:
        return rearrange(learner_state(state), lambda *agent: parts.sharing.adapt(state.key, clock, *agent))

    pieces: dict[str, tuple[Callable, tuple]] = {
        "reset": (jax.vmap(env.reset, (0, None)), (keys, state.env_params)),
        "step": (jax.vmap(env.step, (0, None, 0, 0)), (keys, state.env_params, worlds, idle)),
        "collection": (
            lambda state: collection(state.key, zero, state.env_params, learner_state(state), zero),
            (state,),
        ),
        "update": (update, (state, clock)),
        "adaptation": (adaptation, (state, clock)),
    }
    if (fit := parts.sharing.fit) is not None:

        def fitting(state: SeedState, clock: Clock) -> Any:
            draw = make_draw(parts, state.env_params, state.replay, clock.episodes)
            return rearrange(learner_state(state), lambda *agent: fit.run(state.key, *agent, draw))  # type: ignore

        pieces["fit"] = fitting, (state, clock)
    pieces["test"] = (
        lambda state: evaluate(state.key, state.env_params, team(parts, state.params, state.sharing)),
        (state,),
    )
    return pieces


def depth(function: Callable, *args: Any, platform: str = "cuda") -> Depth:
    """The depth of function(*args) as it would be lowered for a platform: "cpu", "cuda", "tpu".

    Loops with lengths in the program are counted without running it; branches on values then count as the deepest of
    them. Otherwise the program runs once, with the arguments as they are and on the current device, and iterations and
    branches are counted as they happen.
    """
    closed = jax.make_jaxpr(function)(*args)
    jaxpr = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)[0]
    known = static(jaxpr, platform)
    if known is not None:
        return known
    found = jax.jit(lambda consts, flat: _run(jaxpr, platform, consts, flat)[1])(closed.consts, jax.tree.leaves(args))
    return Depth(*(int(n) for n in found))


def static(jaxpr: Any, platform: str) -> Depth | None:
    """The depth of a jaxpr, None if it has a loop whose length depends on values."""
    total = NOTHING
    for equation in jaxpr.eqns:
        one = _static_equation(equation, platform)
        if one is None:
            return None
        total = total.plus(one)
    return total


def _static_equation(equation: Any, platform: str) -> Depth | None:
    name = equation.primitive.name
    if name == "while":
        return None
    if name == "cond":
        depths = [static(branch.jaxpr, platform) for branch in _branches(equation, platform)]
        return None if None in depths else Depth(*(max(column) for column in zip(*depths, strict=True)))  # type: ignore
    inner = _inner(equation)
    if inner is None:
        return Depth(0, int(name in KERNELS))
    known = static(inner, platform)
    return known.times(equation.params["length"]) if known and name == "scan" else known


def _run(jaxpr: Any, platform: str, consts: Sequence[Any], args: Sequence[Any]) -> tuple[list[Any], Depth]:
    """The outputs of a jaxpr, and its depth as numbers of the program."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    total = Depth(jnp.float32(0), jnp.float32(0))
    for equation in jaxpr.eqns:
        given = [var.val if isinstance(var, Literal) else values[var] for var in equation.invars]
        known: Depth | None = _static_equation(equation, platform)
        name, inner = equation.primitive.name, _inner(equation)
        if name == "cond":
            branches = [_closed(branch, platform) for branch in _branches(equation, platform)]
            out, known = (
                jax.lax.switch(given[0], branches, *given[1:]) if len(branches) > 1 else branches[0](*given[1:])
            )
        elif name == "scan" and known is None:
            out, known = _scan(equation, platform, given)
        elif name == "while":
            out, known = _while(equation, platform, given)
        elif inner is not None and name != "scan":
            out, known = _run(inner, platform, getattr(_call(equation), "consts", ()), given)
        else:
            out = equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))
            out = out if equation.primitive.multiple_results else [out]
        total = Depth(*(jnp.float32(n) for n in total.plus(known)))  # type: ignore[arg-type]
        values |= dict(zip(equation.outvars, out, strict=True))
    return [var.val if isinstance(var, Literal) else values[var] for var in jaxpr.outvars], total


def _scan(equation: Any, platform: str, given: Sequence[Any]) -> tuple[list[Any], Depth]:
    params = equation.params
    n_consts, n_carry = params["num_consts"], params["num_carry"]
    consts, start, rows = given[:n_consts], given[n_consts : n_consts + n_carry], given[n_consts + n_carry :]
    body = _closed(params["jaxpr"], platform)

    def step(carry: tuple[list[Any], Depth], row: Sequence[Any]):
        out, found = body(*consts, *carry[0], *row)
        return (out[:n_carry], carry[1].plus(found.times(1))), out[n_carry:]

    carry = (list(start), Depth(jnp.float32(0), jnp.float32(0)))
    (last, total), made = jax.lax.scan(step, carry, list(rows), length=params["length"], reverse=params["reverse"])
    return [*last, *made], total


def _while(equation: Any, platform: str, given: Sequence[Any]) -> tuple[list[Any], Depth]:
    params = equation.params
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = _closed(params["cond_jaxpr"], platform), _closed(params["body_jaxpr"], platform)
    for_cond, for_body, start = given[:n_cond], given[n_cond : n_cond + n_body], given[n_cond + n_body :]

    def goes_on(values: Sequence[Any]) -> jax.Array:
        return cond(*for_cond, *values)[0][0]

    def turn(carry: tuple[list[Any], Depth]) -> tuple[list[Any], Depth]:
        old, total = carry
        new, found = body(*for_body, *old)
        on = goes_on(old)  # with the leading axes of `jax.vmap`, or a scalar
        new = [jnp.where(on.reshape(*on.shape, *[1] * (x.ndim - on.ndim)), x, y) for x, y in zip(new, old, strict=True)]
        return new, total.plus(found.times(1))

    carry = (list(start), Depth(jnp.float32(0), jnp.float32(0)))
    return jax.lax.while_loop(lambda carry: jnp.any(goes_on(carry[0])), turn, carry)


def _closed(closed: Any, platform: str) -> Callable[..., tuple[list[Any], Depth]]:
    """The outputs and the depth of a closed jaxpr, as a function."""
    return lambda *args: _run(closed.jaxpr, platform, closed.consts, args)


def _branches(equation: Any, platform: str) -> Sequence[Any]:
    """The branches that can be taken."""
    branches, by_platform = equation.params["branches"], equation.params.get("branches_platforms")
    if by_platform is None:
        return branches
    return [next(b for b, names in zip(branches, by_platform, strict=True) if names is None or platform in names)]


def _call(equation: Any) -> Any:
    """The inner jaxpr of a call or a scan, closed or not; None of another equation."""
    if equation.primitive.name in KERNELS:  # whose inner jaxpr combines two numbers
        return None
    found = [equation.params[name] for name in ("jaxpr", "call_jaxpr", "call") if name in equation.params]
    return found[0] if found else None


def _inner(equation: Any) -> Any:
    inner = _call(equation)
    return getattr(inner, "jaxpr", inner)
