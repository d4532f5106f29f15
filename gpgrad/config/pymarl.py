"""Settings of PyMARL, PyMARL2 and EPyMARL as gpgrad's.

A configuration is the merged one that these programs print and log (sacred's config.json), or a single file of theirs,
of which only what it names is translated. docs/pymarl.md has the same table for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gpgrad import config, envs
from gpgrad.config import validate
from gpgrad.errors import SettingError

# Settings with the same meaning and unit.
SAME = {
    "t_max": "t_max",
    "seed": "seed",
    "gamma": "learner.gamma",
    "lr": "learner.lr",
    "grad_norm_clip": "learner.clip",
    "batch_size": "learner.batch_episodes",
    "target_update_interval": "learner.target_every_episodes",
    "double_q": "learner.double_q",
    "td_lambda": "learner.td_lambda",
    "optimizer": "learner.optimiser",
    "buffer_size": "replay.capacity",
    "batch_size_run": "rollout.worlds",
    "epsilon_start": "rollout.start",
    "epsilon_finish": "rollout.finish",
    "epsilon_anneal_time": "rollout.anneal_steps",
    "rnn_hidden_dim": "agent.hidden",
    "hidden_dim": "agent.hidden",
    "obs_last_action": "agent.last_action",
    "test_nepisode": "evaluation.episodes",
    "test_interval": "evaluation.every_steps",
    "mixing_embed_dim": "decomposition.embed",
    "hypernet_embed": "decomposition.hypernet_embed",
    "hypernet_layers": "decomposition.hypernet_layers",
    "w": "decomposition.alpha",
    "opt_loss": "decomposition.opt_loss",
    "nopt_min_loss": "decomposition.nopt_loss",
    "n_head": "decomposition.heads",
    "adv_hypernet_layers": "decomposition.adv_hypernet_layers",
}
MIXERS = {
    "none": "iql",
    "vdn": "vdn",
    "qmix": "qmix",
    "qatten": "qatten",
    "dmaq": "qplex",
    "dmaq_qatten": "qplex",
    "qtran_base": "qtran",
}
LEARNERS = ("q_learner", "nq_learner", "max_q_learner", "dmaq_qatten_learner", "dmaq_learner", "qtran_learner")
CONTROLLERS = {"non_shared_mac": "nops", "rnn_ns": "nops"}  # each agent has a network of its own

# What a run has in any case, or what changes no number.
NEEDLESS = (
    *("runner", "agent", "agent_output_type", "action_selector", "name", "env", "env_args", "mixer", "learner", "mac"),
    *("obs_agent_id", "hysteretic_qmix", "central_loss", "label", "use_cuda", "buffer_cpu_only", "use_tensorboard"),
    *("save_model", "save_model_interval", "checkpoint_path", "load_step", "evaluate", "save_replay", "render"),
    *("local_results_path", "log_interval", "runner_log_interval", "learner_log_interval", "test_greedy", "repeat_id"),
    *("n_agents", "n_actions", "state_shape", "obs_shape", "batch_run", "run", "use_wandb", "wandb_mode", "wandb_team"),
    *(
        "wandb_project",
        "wandb_save_model",
        "hypergroup",
        "unique_token",
        "device",
        "episode_limit",
        "unit_dim",
        "t_env",
    ),
    *("critic_lr", "mask_before_softmax", "use_rnn", "common_reward", "thread_num", "enable_parallel_computing"),
)
# What has no equal, unless it has the value at which it does nothing.
MISSING: dict[str, tuple[Any, str]] = {
    "q_lambda": (False, "returns are TD(lambda) along the taken actions, learner.td_lambda"),
    "standardise_rewards": (False, "rewards are not standardised while training; learner.reward_scale multiplies them"),
    "standardise_returns": (False, "returns are not standardised"),
    "evaluation_epsilon": (0.0, "tests are greedy"),
    "use_layer_norm": (False, "networks have no layer norm"),
    "use_orthogonal": (False, "agent.init is torch or flax"),
    "gain": (0.01, "agent.init is torch or flax"),
    "use_per": (False, "the replay is sampled uniformly"),
    "per_alpha": (None, "the replay is sampled uniformly"),
    "per_beta": (None, "the replay is sampled uniformly"),
    "return_priority": (False, "the replay is sampled uniformly"),
    "optim_alpha": (0.99, "RMSprop has PyMARL's alpha of 0.99"),
    "optim_eps": (0.00001, "RMSprop has PyMARL's epsilon of 1e-5"),
    "obs_individual_obs": (False, "mixers see the state of the environment"),
    "reward_scalarisation": ("sum", "the environment gives one team reward"),
    "add_value_last_step": (True, "episodes that end by their limit are not bootstrapped as returns of actors"),
}


class Import(NamedTuple):
    """A translated configuration.

    env, algo: names here. settings: what differs from what gpgrad would choose for them. missing: a sentence for each
    setting without an equal.
    """

    env: str
    algo: str
    settings: dict[str, Any]
    missing: list[str]

    @property
    def words(self) -> list[str]:
        """The words of the equal command."""
        options = [f"--{name}={_text(value)}" for name, value in self.settings.items()]
        return ["gpgrad", "train", f"--env={self.env}", f"--algo={self.algo}", *options]


def translate(content: Mapping[str, Any], env: str | None = None) -> Import:
    """The equal of a configuration. env: an environment here, instead of the one it names.

    Raises SettingError for what cannot be translated at all: other learners, mixers and environments.
    """
    algo = _algorithm(content)
    world = env or _world(content)
    if not envs.known(world):
        raise SettingError(f"unknown environment {world!r}{envs.missing(world)}; --env chooses another")
    preset = "pymarl2" if content.get("learner") == "nq_learner" or "optimizer" in content else "pymarl"
    start = config.load(world, algo, {"preset": preset})
    known = config.flat(start)
    wanted: dict[str, Any] = {}
    missing: list[str] = []
    for name, value in content.items():
        if name in SAME:
            if SAME[name] in known:
                wanted[SAME[name]] = value
            else:
                missing.append(f"{name} {value!r}: {algo} has no {SAME[name]}")
        elif name in MISSING:
            neutral, why = MISSING[name]
            if neutral is None or value != neutral:
                missing.append(f"{name} {value!r}: {why}")
        elif name not in NEEDLESS and name not in SPECIAL:
            missing.append(f"{name} {value!r}: not known here")
    for name, translated in SPECIAL.items():
        if name in content:
            changes, problem = translated(content[name])
            wanted |= changes
            missing += [f"{name} {content[name]!r}: {problem}"] if problem else []
    if worlds := content.get("batch_size_run"):  # one update per collection
        wanted["learner.updates_per_episode"] = 1 / validate.coerce(worlds, int, "batch_size_run")
    types = config.types(start)
    wanted = {name: validate.coerce(value, types[name], _origin(name)) for name, value in wanted.items()}
    settings = {"preset": preset, **_sharing(content)}
    settings |= {name: value for name, value in wanted.items() if value != known[name]}
    config.load(world, algo, settings)
    return Import(world, algo, settings, missing)


def _target(value: Any) -> tuple[dict[str, Any], str]:
    """EPyMARL: more than 1 is an interval, less is the rate of a moving average."""
    number = validate.coerce(value, float, "target_update_interval_or_tau")
    if number <= 1:
        return {}, "the target network is copied, learner.target_every_episodes, and follows no moving average"
    return {"learner.target_every_episodes": int(number)}, ""


def _optimiser_of_epymarl(value: Any) -> tuple[dict[str, Any], str]:
    return {"agent.hidden": value, "learner.optimiser": "adam"}, ""


SPECIAL: dict[str, Callable[[Any], tuple[dict[str, Any], str]]] = {
    "target_update_interval_or_tau": _target,
    "hidden_dim": _optimiser_of_epymarl,
}


def _algorithm(content: Mapping[str, Any]) -> str:
    learner = content.get("learner", "q_learner")
    if learner not in LEARNERS:
        raise SettingError(f"learner {learner!r} has no equal; must be a value decomposition's: {', '.join(LEARNERS)}")
    if "hysteretic_qmix" in content:
        return "ow_qmix" if content["hysteretic_qmix"] else "cw_qmix"
    mixer = str(content.get("mixer", "none")).lower()
    if content.get("name") == "qatten":
        mixer = "qatten"
    if mixer not in MIXERS:
        raise SettingError(f"mixer {mixer!r} has no equal; must be one of {', '.join(MIXERS)}")
    return MIXERS[mixer]


def _sharing(content: Mapping[str, Any]) -> dict[str, str]:
    """The sharing scheme that the controller and the agent's input stand for; nothing if neither is named."""
    for name in (content.get("mac"), content.get("agent")):
        if name in CONTROLLERS:
            return {"sharing": CONTROLLERS[name]}
    if "obs_agent_id" in content:
        return {"sharing": "fups_id" if content["obs_agent_id"] else "fups"}
    return {}


def _world(content: Mapping[str, Any]) -> str:
    """The environment here of `env` and `env_args`."""
    name, options = content.get("env"), content.get("env_args") or {}
    if not isinstance(options, Mapping):
        raise SettingError(f"env_args must be a mapping of names to values (got {validate.short(options)})")
    label = str(options.get("map_name") or options.get("key") or "")
    if name in ("sc2", "smaclite") and label:
        return f"{'smac' if name == 'sc2' else name}_{label}"
    if name in ("sc2_v2", "sc2v2", "sc2wrapped") and "capability_config" in options:
        capability = options["capability_config"]
        return f"smacv2_{label.rpartition('_')[2]}_{capability['n_units']}_vs_{capability['n_enemies']}"
    if name in ("gymma", "gym") and label:
        return f"gym_{label.rpartition(':')[2]}"
    what = "no environment" if name is None else f"the environment {name!r}, which has no equal here"
    raise SettingError(f"the configuration names {what}; pass --env NAME, see gpgrad list")


def _origin(setting: str) -> str:
    """The name in the file of a setting."""
    return next((name for name, own in SAME.items() if own == setting), setting)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
