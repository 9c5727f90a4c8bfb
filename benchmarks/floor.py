"""The least time that a network can take on a device: the sum over its layers.

A layer takes at least its operations over the device's peak, and at least its bytes (what it reads and writes, once)
over the device's bandwidth; both are measured here. Copies, casts and concatenations are no layers: a perfect program
does without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

# Beside those whose operations PyTorch can count (convolutions, matrix products, attention).
LAYERS = ("norm", "upsample", "gelu", "relu", "softmax", "add")


@dataclass(frozen=True)
class Layer:
    """One layer of one forward pass: its operations (2 per multiply-add) and the numbers it reads and writes."""

    name: str
    operations: float
    numbers: float


@dataclass(frozen=True)
class Peaks:
    """What a device reached: operations and bytes a second."""

    operations: float
    bytes: float


def floor_seconds(layers: Sequence[Layer], peaks: Peaks, precision: torch.dtype) -> float:
    """The least time of one forward pass whose numbers are all of one type."""
    return sum(max(at.operations / peaks.operations, at.numbers * precision.itemsize / peaks.bytes) for at in layers)


def layers(network: Callable[[Any], Any], x: Any) -> list[Layer]:
    """The layers that a forward pass on `x` runs, of a network or a part of one."""
    # In inference mode convolutions and linear layers would pass by before PyTorch takes them apart.
    with torch.no_grad(), _Recording() as recording:
        network(x)
    return recording.layers


def measure_peaks(device: torch.device, precision: torch.dtype, side: int = 4096, seconds: float = 1.0) -> Peaks:
    """The best of repeated matrix products, and of repeated copies that no cache holds."""
    if device.type == "cpu":
        side = min(side, 2048)
    a = torch.randn(side, side, device=device).to(precision)
    products = _best(lambda: a @ a, device, seconds)
    numbers = torch.ones(64_000_000, device=device)
    other = torch.empty_like(numbers)
    copies = _best(lambda: other.copy_(numbers), device, seconds)
    return Peaks(2 * side**3 / products, 2 * numbers.nbytes / copies)


def _best(work: Callable[[], Any], device: torch.device, seconds: float) -> float:
    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    best, until = once(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        best = min(best, once())
    return best


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func._overloadpacket
        name = packet.__name__
        attention = "attention" in name
        if packet in flop_registry or attention or any(part in name for part in LAYERS):
            read = [entry for entry in args if isinstance(entry, Tensor)]
            out = result[0] if isinstance(result, tuple) else result
            if attention:
                operations = _attention(*read[:3])
            else:
                operations = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
            self.layers.append(Layer(name, operations, sum(entry.numel() for entry in (*read, out))))
        return result


def _attention(query: Tensor, key: Tensor, value: Tensor) -> float:
    """Two matrix products a head, [B, heads, N, width/heads] each."""
    pairs = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return 2.0 * pairs * (query.shape[3] + value.shape[3])
