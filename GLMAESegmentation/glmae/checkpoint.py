"""Checkpoints of a training run: one safetensors file with the tensors and, in its header, the rest as JSON.

Nothing is ever pickled, so that opening a file of unknown origin cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .backbone.weights import write_weights
from .errors import ModelError
from .files import last_line
from .json_record import FORMER_NAMES

STATE = "state"
OPTIMIZER = "optimizer."


@dataclass(frozen=True)
class Checkpoint:
    """What a file held.

    Attributes:
        tensors: by name, on the CPU.
        state: JSON-serializable values.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix`, without it."""
        return {name[len(prefix) :]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; until it is complete, a previous one at `path` stays as it is.

    Args:
        tensors: any device; no two may share memory.
        state: JSON-serializable values; floats are kept to the last bit.

    Raises:
        StorageError: the file cannot be written.
    """
    write_weights(path, tensors, {STATE: json.dumps(state, allow_nan=False)})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ModelError: the file is missing, damaged, or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path} is missing; choose a folder that holds an unfinished run, or start a new one")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # Clones, because Windows does not let a file be replaced while tensors still look into it.
            tensors = {_name_of_today(name): file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state = json.loads(header[STATE])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({last_line(error)}); delete it and start the run again") from error
    return Checkpoint(tensors, state)


def _name_of_today(name: str) -> str:
    *modules, own = name.split(".")
    return ".".join([*modules, FORMER_NAMES.get(own, own)])


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with `prefix` before each name; the inverse of `Checkpoint.under`."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimizer's moments as flat tensors `optimizer.PARAMETER.NAME`, and its groups as JSON values."""
    content = optimizer.state_dict()
    tensors = {
        f"{OPTIMIZER}{parameter}.{name}": torch.as_tensor(value)
        for parameter, moments in content["state"].items()
        for name, value in moments.items()
    }
    return tensors, content["param_groups"]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Put back what `optimizer_state` gave; tensors of other names are passed over.

    Raises:
        ModelError: the state belongs to other parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(OPTIMIZER):
            parameter, moment = name[len(OPTIMIZER) :].split(".", 1)
            state.setdefault(int(parameter), {})[moment] = tensor
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise ModelError(f"the checkpoint's optimizer does not fit this network ({last_line(error)})") from error


def restore_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load all weights of `module`, by name.

    Raises:
        ModelError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit this network ({last_line(error)}); start a new run") from error
