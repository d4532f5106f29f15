"""Names of metrics in wandb and TensorBoard, which group curves by the part of a name before the slash.

    test/     greedy tests: test_return is test/return, payoff_error is test/payoff_error
    train/    collected episodes, losses and counts: train_return is train/return, loss is train/loss
    gpvd/     metrics of GPVD's weighting
    gradps/   metrics of neurons and clones, which GradPS, and ReDo in part, report
    sharing/  metrics of other sharing schemes
    final/    the final test, in wandb's summary: test_return is final/return

`env_steps`, the axis of all curves, and `seed` keep their names. Metrics of plugins are in train/ unless their name
begins with test_.
"""

from __future__ import annotations

import re

from gpgrad.runs.logs import STEPS, Row, flatten

BARE = (STEPS, "seed")
SECTIONS = {
    "test": ("payoff_error", "payoff_table", "utilities", "roles", "disagreement"),
    "gpvd": ("bonus", "weight", "buckets", "share"),
    "gradps": (
        *("conflict", "conflict_normalised", "efficiency", "efficiency_group", "efficiency_chance", "neuron_gradients"),
        *("futile", "futile_group", "futile_chance", "dormant", "cloned", "restoring", "opened", "closed"),
        *("restores", "restores_expected", "first_opening", "first_opening_episodes", "groups", "effective_params"),
    ),
    "sharing": ("fit_loss", "live_units", "masked", "reset_weights", "recycled"),
}
_OWNERS = {name: section for section, names in SECTIONS.items() for name in names}


def key(name: str) -> str:
    """The name of a metric with its section. Suffixes, as in conflict_1 or payoff_table_start, keep the section."""
    if name in BARE:
        return name
    for section in ("test", "train"):
        if name.startswith(f"{section}_"):
            return f"{section}/{name.removeprefix(f'{section}_')}"
    base = name
    while base not in _OWNERS and "_" in base:
        base = base.rpartition("_")[0]
    return f"{_OWNERS.get(base, 'train')}/{name}"


def sectioned(row: Row) -> Row:
    """The numbers of a row by their names with sections. Lists become one entry per item, unless they are long."""
    return flatten({key(name): value for name, value in row.items()})


def final(row: Row) -> Row:
    """The numbers of a final test, all in the section final/."""
    bare = {re.sub("^test_", "", name): value for name, value in row.items() if name != "seed"}
    return flatten({f"final/{name}": value for name, value in bare.items()})
