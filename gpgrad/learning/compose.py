"""Build the parts of a learner from a configuration."""

from __future__ import annotations

import jax

from gpgrad import envs
from gpgrad.config.schema import Config
from gpgrad.envs.api import Env, View, roles_of
from gpgrad.errors import SettingError
from gpgrad.learning import devices
from gpgrad.learning.learner import Parts
from gpgrad.methods import optimisers, registry
from gpgrad.methods.nets.agent import make_agent
from gpgrad.types import Context, NetSpec, Returns


def compose(config: Config, env: Env | None = None) -> Parts:
    """Build every part of a run. `env` replaces the configured environment. Raises SettingError for bad settings."""
    devices.require()
    env = env or envs.make(config.env.name, **config.env.options)
    if env.spec.n_actions > 127:
        raise SettingError(f"{env.spec.name} has {env.spec.n_actions} actions, expected at most 127 (stored as int8)")
    agent, learner = config.agent, config.learner
    net = NetSpec(agent.hidden, bool(agent.agent_id), agent.last_action, agent.init, agent.layers)
    returns = Returns(learner.gamma, learner.td_lambda, learner.double_q, learner.loss_factor)
    spec = env.spec._replace(return_scale=env.spec.return_scale * learner.reward_scale)
    context = Context(spec, net, returns, config.t_max)
    sharing = registry.maker("sharing", config.sharing.name)(context, **config.sharing.options)
    if sharing.needs_roles and roles_of(env) is None:
        raise SettingError(f"sharing {config.sharing.name} needs an environment with hidden roles, such as pp_small")
    if sharing.fit is not None:
        _check_fit(config, sharing.fit.episodes, env.spec.episode_limit)
    context = context._replace(net=sharing.net)
    decomposition = registry.maker("decomposition", config.decomposition.name)(context, **config.decomposition.options)
    weighting = registry.maker("weighting", config.weighting.name)(context, **config.weighting.options)
    return Parts(
        env=env,
        agent=make_agent(env.spec, sharing.net, decomposition.head),
        sharing=sharing,
        decomposition=decomposition,
        weighting=weighting,
        optimiser=optimisers.with_separate(
            optimisers.make(learner.optimiser, learner.lr), decomposition.separate_optimiser
        ),
        clip=learner.clip,
        reward_scale=learner.reward_scale,
    )


def _check_fit(config: Config, episodes: int, limit: int) -> None:
    """Raise SettingError for a scheme that needs more episodes than the replay holds or the run collects."""
    most = {"replay.capacity": config.replay.capacity, "t_max": config.t_max // limit}
    for name, there in most.items():
        if episodes > there:
            raise SettingError(f"sharing.episodes must be at most the {there} episodes of {name} (got {episodes})")


def example_view(env: Env) -> View:
    """Zeros of the shapes and dtypes of one environment's view."""

    def view(key: jax.Array) -> View:
        params = env.params(key)
        return env.view(params, env.reset(key, params))

    shapes = jax.eval_shape(view, jax.random.key(0))
    return jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)
