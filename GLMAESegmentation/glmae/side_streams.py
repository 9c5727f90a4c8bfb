"""CUDA streams for threads that prepare batches: in the network's stream they would wait for its steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class SideStreams:
    """A stream for each thread that asks; on other devices than NVIDIA's, nothing at all.

    Args:
        device: where batches are prepared; None: nowhere in particular.
    """

    def __init__(self, device: torch.device | None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._own = threading.local()

    def run(self, make: Callable[[], Result]) -> Result:
        """Call `make` in this thread's stream; what it returns is ready for any stream."""
        if self._device is None:
            return make()
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(self._own.stream):
            made = make()
        self._own.stream.synchronize()
        return made

    def hand_over(self, batch: object) -> None:
        """Say that the current stream reads the tensors of a dataclass: their memory is not used again before."""
        if self._device is None or batch is None:
            return
        reader = torch.cuda.current_stream(self._device)
        for value in vars(batch).values():
            if isinstance(value, Tensor) and value.is_cuda:
                value.record_stream(reader)
