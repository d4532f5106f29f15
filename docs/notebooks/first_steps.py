# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # First steps
#
# A run from Python: settings, training, results, and the trained team at play. Convert this script to a notebook with
# `jupytext --to ipynb docs/notebooks/first_steps.py`.

# %%
import tempfile

import numpy as np

import gpgrad

runs = tempfile.mkdtemp()

# %% [markdown]
# Settings are a frozen dataclass: the environment's preset, and what you change. A misspelt name raises a
# `SettingError` with the nearest valid one.

# %%
overrides = {"seeds": 2, "t_max": 2000, "evaluation.every_steps": 1000, "log.wandb": "disabled", "log.dir": runs}
config = gpgrad.load("matrix_gpvd", "gpvd", overrides)
print(config.preset, config.decomposition.name, config.sharing.name, config.weighting)

try:
    gpgrad.load("matrix_gpvd", "gpvd", {"weighting.alpa": 0.5})
except gpgrad.SettingError as error:
    print(error)

# %% [markdown]
# `run` trains all seeds. Rows of `result.metrics` are those of `metrics.jsonl`: one for each seed and test.

# %%
result = gpgrad.run(config)
for row in result.metrics:
    print(row["seed"], row["env_steps"], row["test_return"])

# %% [markdown]
# The learned joint values of the last test, beside the payoff matrix with its best entry 8.

# %%
learned = [name for name in result.metrics[-1] if name.startswith("payoff_table")]
for name in learned:
    print(name, np.round(np.array(result.metrics[-1][name]), 1))

# %% [markdown]
# The trained team of one seed, as two pure functions.

# %%
import jax

from gpgrad import envs

policy = gpgrad.load_policy(str(result.run_dir), seed=0)
env = envs.make("matrix_gpvd")
params = env.params(jax.random.key(0))
state = env.reset(jax.random.key(1), params)
view = env.view(params, state)
actions, _ = policy.act(policy.init(1), view.obs[None], view.avail[None])
print("greedy joint action", actions[0], "pays", env.step(jax.random.key(2), params, state, actions[0]).reward)
