# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A look into GradPS
#
# In the additive game the reward is $i + w j$ for actions $i$, $j$ of two equal agents. They share a network without an
# id, so their utilities are equal and VDN can represent symmetric tables only. With $w = -1$ the agents' gradients
# cancel in most neurons: these are futile, and GradPS clones them.

# %%
import tempfile

import numpy as np

import gpgrad

runs = tempfile.mkdtemp()
settings = {
    "preset": "gradps_paper",
    "env.w": -1.0,
    "t_max": 6000,
    "evaluation.every_steps": 1000,
    "log.wandb": "disabled",
    "log.dir": runs,
}

# %% [markdown]
# Full sharing with the metrics of GradPS is `gradps` with one clone for all agents.

# %%
full = gpgrad.run(gpgrad.load("matrix_additive", "vdn_gradps", {**settings, "sharing.k": 1, "log.name": "full"}))
cloned = gpgrad.run(gpgrad.load("matrix_additive", "vdn_gradps", {**settings, "log.name": "cloned"}))

# %% [markdown]
# Efficiency of a neuron is the share of the agents' gradients that is left after they are added. Below 0.2 the
# neuron is futile.


# %%
def show(name, result):
    """Print payoff error, futile and cloned neurons of every test."""
    print(name)
    for row in result.metrics:
        print(
            f"{row['env_steps']:6d} steps  error {row['payoff_error']:6.3f}  "
            f"futile {row['futile']}  cloned {row['cloned']}"
        )


show("full sharing", full)
show("GradPS", cloned)

# %% [markdown]
# Two equal agents cannot go below $((1-w)/2)^2 \cdot 2.5$, the variance that a symmetric table leaves.

# %%
f = np.arange(4)
floor = ((1 - settings["env.w"]) / 2) ** 2 * 2 * f.var()
print(f"floor of full sharing {floor:.3f}, error of GradPS {cloned.metrics[-1]['payoff_error']:.3f}")
