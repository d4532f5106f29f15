"""A team's decentralised policies as plain arrays, to act without JAX.

Whatever the sharing scheme, each agent gets a network of its own with the same layers: dense layers with ReLU, a GRU,
dense layers with ReLU, a head. Masks and gates are multiplied into the weights, an agent's id into its first bias, and
what the decomposition multiplies to the head's inputs (`Decomposition.export_scale`) into the head.

Axes in comments: A agents, D inputs, H hidden units, U actions.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpgrad import config
from gpgrad.errors import SettingError
from gpgrad.methods.decomposition import base
from gpgrad.methods.nets.agent import AgentParams
from gpgrad.methods.nets.layers import Dense
from gpgrad.policies.trained import TrainedTeam
from gpgrad.types import Gates

Arrays = dict[str, np.ndarray]
ENDINGS = (".npz", ".safetensors")


def write(team: TrainedTeam, path: Path) -> Arrays:
    """Write a team's policies to FILE.npz or FILE.safetensors; returns them. Raises SettingError for another ending."""
    if path.suffix not in ENDINGS:
        raise SettingError(f"--out must be a file that ends with {' or '.join(ENDINGS)} (got {str(path)!r})")
    arrays, notes = policies(team), describe(team)
    if path.suffix == ".npz":
        np.savez(path, meta=np.array(json.dumps(notes)), **arrays)  # type: ignore[arg-type]
    else:
        path.write_bytes(safetensors(arrays, {name: str(value) for name, value in notes.items()}))
    return arrays


def describe(team: TrainedTeam) -> dict[str, Any]:
    """Metadata of the file: the team's card, see `card.of_run`, and the sizes of an agent's input."""
    spec = team.parts.env.spec
    return {
        **team.card,
        "world": spec.name,
        "algorithm": config.label(team.config),
        "seed": team.seed,
        "n_agents": spec.n_agents,
        "n_actions": spec.n_actions,
        "obs_dim": spec.obs_dim,
        "last_action": int(team.parts.sharing.net.last_action),
    }


def policies(team: TrainedTeam) -> Arrays:
    """Each agent's own network, float32.

    dense.I.kernel [A, D, H], dense.I.bias [A, H]: layers before the GRU; the input is the observation and, if
    `last_action`, a one-hot of the last action, zeros at first. gru.w_in, gru.w_rec [3, A, H, H], gru.b_in, gru.b_rec
    [3, A, H]: reset, update, candidate. after.I.*: as dense, behind the GRU. head.kernel [A, H, U], head.bias [A, U].
    Raises SettingError for utilities that are more than the outputs of a network.
    """
    parts, spec, members = team.parts, team.parts.env.spec, team.members
    scale = parts.decomposition.export_scale
    if scale is None and parts.decomposition.utilities is not base.plain_utilities:
        name = team.config.decomposition.name
        raise SettingError(
            f"the policies of {name} are more than a network and cannot be exported: the decomposition's utilities "
            f"must be the network's outputs, as qmix's are; gpgrad.load_policy can act with them"
        )
    net: AgentParams = members.params
    before = _gated([net.fc1, *net.deep], members.gates)
    before = [_each(layer, spec.n_agents) for layer in before]
    if parts.sharing.net.agent_id:
        before[0] = _without_id(before[0], spec.n_agents)
    after = [_each(layer, spec.n_agents) for layer in net.after]
    head = _each(net.head, spec.n_agents)
    if scale is not None:
        head["kernel"] = head["kernel"] * np.asarray(scale(net), np.float64)[..., None]  # [1 or A, H, 1]
    named = {f"dense.{i}": layer for i, layer in enumerate(before)}
    named |= {f"after.{i}": layer for i, layer in enumerate(after)} | {"head": head}
    arrays = {f"{name}.{part}": value for name, layer in named.items() for part, value in layer.items()}
    for name, gates in net.gru._asdict().items():
        matrices = name.startswith("w")
        arrays[f"gru.{name}"] = np.stack([_own(gate, spec.n_agents, 2 if matrices else 1) for gate in gates])
    return {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}


def safetensors(arrays: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> bytes:
    """Float32 arrays in the safetensors format: the header's length, the header as JSON, the arrays."""
    header: dict[str, object] = {"__metadata__": dict(notes)}
    end = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays.values())
    return struct.pack("<Q", len(text)) + text + data


def _own(leaf: object, n_agents: int, axes: int) -> np.ndarray:
    """A leaf with the leading axis A, float64, as products of weights are rounded once."""
    array = np.asarray(leaf, np.float64)
    return array if array.ndim > axes else np.broadcast_to(array, (n_agents, *array.shape))


def _each(layer: Dense, n_agents: int) -> dict[str, np.ndarray]:
    return {"kernel": _own(layer["kernel"], n_agents, 2), "bias": _own(layer["bias"], n_agents, 1)}


def _gated(layers: list[Dense], gates: Gates) -> list[Dense]:
    """Gates multiply activations after ReLU; those of zeros and ones may as well multiply the weights before it."""
    each = gates if isinstance(gates, tuple) else (gates, *[None] * (len(layers) - 1))
    result: list[Dense] = []
    for layer, gate in zip(layers, each, strict=True):
        if gate is None:
            result.append(layer)
            continue
        if (np.asarray(gate) < 0).any():
            raise SettingError(f"gates must be 0 or more to be multiplied into weights (got {np.nanmin(gate):g})")
        kernel = layer["kernel"] if layer["kernel"].ndim == 3 else layer["kernel"][None]
        result.append({"kernel": kernel * gate[:, None], "bias": layer["bias"] * gate})
    return result


def _without_id(layer: dict[str, np.ndarray], n_agents: int) -> dict[str, np.ndarray]:
    """The first layer without its last inputs, the agents' ids, each of which is a constant."""
    kernel, bias = layer["kernel"], layer["bias"]
    rows = np.arange(n_agents)
    return {"kernel": kernel[:, :-n_agents], "bias": bias + kernel[rows, rows - n_agents]}
