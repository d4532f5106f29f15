"""QTRAN-base: an unconstrained joint value, and utilities whose sum is held to it (Son et al. 2019)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.errors import SettingError
from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import joint_critic
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Context, TermInputs, Terms

NUMERICS = 1


class Losses(NamedTuple):
    """Per step [T, B]: squared TD error of the joint value, and what holds the sum of utilities to it."""

    td: jax.Array
    opt: jax.Array
    nopt: jax.Array


def losses(
    q_joint: jax.Array,
    target: jax.Array,
    q_joint_greedy: jax.Array,
    baseline: jax.Array,
    q_sum: jax.Array,
    q_sum_greedy: jax.Array,
) -> Losses:
    """The three losses; all arguments [T, B]. baseline: V(s). q_sum, q_sum_greedy: of utilities taken, of the maxima.

    opt: the sum of the maxima plus V is the joint value of the greedy actions. nopt: elsewhere the sum plus V is not
    below the joint value. The joint value carries no gradient in either.

    Source: QTRAN (ICML 2019), QTRAN-base: L_td, L_opt and L_nopt.
    """
    fixed, fixed_greedy = jax.lax.stop_gradient((q_joint, q_joint_greedy))
    below = jnp.minimum(q_sum - fixed + baseline, 0.0)
    return Losses(jnp.square(q_joint - target), jnp.square(q_sum_greedy - fixed_greedy + baseline), jnp.square(below))


def make(context: Context, embed: int = 64, opt_loss: float = 1.0, nopt_loss: float = 0.1) -> Decomposition:
    """L = L_td + opt_loss * L_opt + nopt_loss * L_nopt, with Q_jt(s, u) on the state and the agents' hidden states.

    embed: width of the two networks' hidden layers.
    opt_loss: weight of L_opt, at the greedy joint action. nopt_loss: weight of L_nopt, at the actions taken.

    For weightings Q_tot is Q_jt of the actions taken, whose TD loss they weigh; its maximum is Q_jt of the greedy joint
    action of the utilities, which is the true one only as far as L_opt and L_nopt have come. The other two losses are
    means over valid steps, not weighted. PyMARL2 gives the networks time and agents in the wrong order; this is what
    PyMARL and WQMIX's code do. Published with one-step targets, which `learner.td_lambda` decides here.

    Source: QTRAN (ICML 2019), QTRAN-base.
    """
    base.check_sizes(embed=embed)
    for name, factor in (("opt_loss", opt_loss), ("nopt_loss", nopt_loss)):
        if factor < 0:
            raise SettingError(f"decomposition.{name} must be at least 0 (got {factor})")
    returns = context.returns
    critic = joint_critic.joint_q(context.spec.n_actions, context.net.hidden, embed, context.net.init)

    def terms(inputs: TermInputs) -> Terms:
        params, target_params, online, target, batch, _, _ = inputs
        avail, state = batch.view.avail, batch.view.state
        best, selected = base.choose(online.q, target.q, avail, returns.double_q)
        before = base.steps(state, slice(None, -1))
        prepared = critic.prepare(params, before, online.hidden[:-1])
        after = critic.prepare(target_params, base.steps(state, slice(1, None)), target.hidden[1:])
        q_joint = critic.value(params, prepared, batch.actions)
        greedy = critic.value(*jax.lax.stop_gradient((params, prepared)), best[:-1])
        next_value = critic.value(target_params, after, selected[1:])
        done = base.td_terms(q_joint, greedy, next_value, batch, returns)
        maxima = base.take(online.q[:-1], best[:-1])
        found = losses(
            q_joint,
            done.target,
            greedy,
            critic.baseline(params, before),
            base.take(online.q[:-1], batch.actions).sum(-1),
            maxima.sum(-1),
        )
        opt, nopt = (base.masked_mean(x, batch.valid) for x in (found.opt, found.nopt))
        aux = returns.loss_factor * (opt_loss * opt + nopt_loss * nopt)
        return done._replace(loss=returns.loss_factor * found.td, aux=aux, log={"opt_loss": opt, "nopt_loss": nopt})

    return Decomposition(Utilities(), critic.init, base.plain_utilities, terms)
