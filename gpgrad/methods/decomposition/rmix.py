"""RMIX: QMIX of the agents' conditional values at risk, at levels of risk that they predict (Qiu et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from gpgrad.errors import SettingError
from gpgrad.methods.decomposition import base, qmix
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import cvar, mixers, quantiles
from gpgrad.methods.nets.lagging_head import LaggingHead
from gpgrad.types import AgentOut, Clock, Context, PyTree, Returns, TermInputs, Terms

NUMERICS = 2


def make(
    context: Context,
    embed: int = 32,
    hypernet_embed: int = 64,
    hypernet_layers: Literal[1, 2] = 2,
    positive: mixers.Positive = "abs",
    atoms: int = 100,
    quantile_every: int = 7,
    quantile_after: int = 100_000,
    quantile_lr: float = 5e-5,
    start: Literal["value", "published"] = "value",
) -> Decomposition:
    """Utilities are means of the lowest share of an action's atoms; the share is one of ten that the agent predicts.

    quantile_lr: learning rate of quantile regression.
    The prediction compares the atoms at hand with those of a recurrent path that is one step behind, behind a dense
    layer of its own. embed, hypernet_embed, hypernet_layers, positive: QMIX's. atoms: of each action's return
    distribution. quantile_every, quantile_after: every so many gradient steps (0: never), once so many full-length
    environment steps were collected, the loss is quantile regression of each agent's atoms instead, with its own value
    at risk as its reward, by an Adam of rate quantile_lr that has its own memory. The published code does so every 1000
    environment steps, which are seven episodes of GradPS's boards. start: `value`, an action's atoms begin around the
    value that a layer without atoms would give; `published`, each by itself, so that their mean begins a tenth as
    large.

    For weightings Q_tot is QMIX of the values at risk of the actions taken, its maximum that of the greedy ones, also
    when the loss is quantile regression, which weightings weigh and rewards do not enter; what is logged of losses and
    gradients is of either. Sharing schemes see nothing of quantile regression: it raises all agents' atoms alike, by
    far larger gradients, and would hide their conflicts.

    Where the published code differs from the paper this is the paper's method: the predictor is trained (straight
    through the choice of a level; there no gradient reaches it), k atoms are divided by k instead of k - 1, and the
    loss is a mean over all agents instead of three.

    Source: RMIX (NeurIPS 2021).
    """
    _check(atoms, quantile_every, quantile_after, quantile_lr)
    spec = context.spec
    mixer = qmix.make_mixer(context, embed, hypernet_embed, hypernet_layers, positive)
    predictor = cvar.predictor(spec.n_actions, atoms, spec.n_agents, context.net.init)

    def init(key: jax.Array, state: PyTree) -> PyTree:
        k_mixer, k_risk = jax.random.split(key)
        return {"mixer": mixer.init(k_mixer, state), "risk": predictor.init(k_risk)}

    def utilities(params: PyTree, out: AgentOut, key: jax.Array) -> jax.Array:
        del key
        return cvar.cvar(out.q, predictor.levels(params["risk"], out)[..., None])

    regresses = partial(_regresses, spec.episode_limit, quantile_every, quantile_after)
    terms = _make_terms(context.returns, mixer, predictor, atoms, regresses)
    second = optax.adam(quantile_lr, eps=0.01 / 32)
    return Decomposition(LaggingHead(atoms, around=start == "value"), init, utilities, terms, second)


def _check(atoms: int, quantile_every: int, quantile_after: int, quantile_lr: float) -> None:
    """Raise SettingError for values that are not allowed."""
    if atoms < 2:
        raise SettingError(f"decomposition.atoms must be at least 2 (got {atoms})")
    for name, value in (("quantile_every", quantile_every), ("quantile_after", quantile_after)):
        if value < 0:
            raise SettingError(f"decomposition.{name} must be at least 0 (got {value})")
    if quantile_lr <= 0:
        raise SettingError(f"decomposition.quantile_lr must be more than 0 (got {quantile_lr})")


def _regresses(episode_limit: int, every: int, after: int, clock: Clock) -> jax.Array:
    """Whether this update's loss is quantile regression, bool []."""
    late = clock.episodes * episode_limit >= after
    return late & (clock.updates % max(every, 1) == 0) & (every > 0)


def _make_terms(
    returns: Returns,
    mixer: mixers.Mixer,
    predictor: cvar.RiskPredictor,
    atoms: int,
    regresses: Callable[[Clock], jax.Array],
) -> Callable[[TermInputs], Terms]:
    """The TD loss of the mixed values at risk or, where `regresses`, quantile regression of each agent's atoms."""
    middles = (jnp.arange(atoms) + 0.5) / atoms

    def atoms_and_values(q: jax.Array, level: jax.Array, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return base.take_wide(q, actions), cvar.cvar(*jax.lax.stop_gradient((q, level[..., None])))

    def next_atoms(q: jax.Array, level: jax.Array, best: jax.Array, avail: jax.Array) -> jax.Array:
        own = best if returns.double_q else base.greedy_actions(cvar.cvar(q, level[..., None]), avail)
        return base.take_wide(q, own)

    def terms(inputs: TermInputs) -> Terms:
        params, target_params, online, target, batch, clock, _ = inputs
        level, target_level = predictor.levels(params["risk"], online), predictor.levels(target_params["risk"], target)
        avail = batch.view.avail
        actions = jnp.concatenate([batch.actions, jnp.zeros_like(batch.actions[:1])])  # [T+1, B, A]
        taken, all_values = cvar.by_step(
            atoms_and_values, online, atoms, level, actions
        )  # [T+1, B, A, M], [T+1, B, A, U]
        best = base.greedy_actions(all_values, avail)
        taken, level = taken[:-1], level[:-1]
        following = cvar.by_step(next_atoms, target, atoms, target_level, best, avail)[1:]
        values = cvar.cvar(taken, level)  # [T, B, A]
        now = mixer.hyper(params["mixer"], base.steps(batch.view.state, slice(None, -1)))
        after = mixer.hyper(target_params["mixer"], base.steps(batch.view.state, slice(1, None)))
        done = base.td_terms(
            mixer.mix(now, values),
            mixer.mix(now, base.take(all_values[:-1], best[:-1])),
            mixer.mix(after, cvar.cvar(following, target_level[1:])),
            batch,
            returns,
        )

        def regression() -> jax.Array:
            ahead = jnp.where(batch.terminated[..., None, None], 0.0, following)
            targets = jax.lax.stop_gradient(values)[..., None] + returns.gamma * ahead
            return returns.loss_factor * quantiles.huber_loss(taken, middles, targets).mean(-1)

        regress = regresses(clock)
        loss = jax.lax.cond(regress, regression, lambda: done.loss)
        log = {"risk_level": base.masked_mean(level.mean(-1), batch.valid)}
        return done._replace(loss=loss, log=log, separate_optimiser=regress)

    return terms
