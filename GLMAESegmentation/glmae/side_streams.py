"""CUDA streams for threads that prepare batches: in the network's stream they would wait for its steps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing

import torch
from torch import Tensor

from .prefetch import Done, Item, prefetch

# Some 100 MB of the GPU's memory each, while a crop of a million voxels is made.
BATCHES_AT_ONCE = 4


class SideStreams:
    """A stream for each thread that asks; on other devices than NVIDIA's, nothing at all."""

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._own = threading.local()

    def run(self, make: Callable[[], Done]) -> Done:
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
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Tensor) and part.is_cuda:
                    part.record_stream(reader)


def batches_ahead(
    make: Callable[[Item], Done], steps: Iterable[Item], device: torch.device, threads: int | None = None
) -> Generator[Done, None, None]:
    """The batches of the steps of a training, some being made while a GPU computes: cutting crops takes time, too.

    A batch follows from its step alone, so that those made in advance are those that would be made in time.

    Args:
        make: the batch of a step; called from several threads.
        threads: as many batches are made at once; None: as many as the machine has to spare.
    """
    threads = threads or max(1, min(BATCHES_AT_ONCE, (os.cpu_count() or 2) - 1))
    streams = SideStreams(device)
    with closing(prefetch(lambda step: streams.run(lambda: make(step)), steps, threads, lambda _: threads)) as coming:
        for future in coming:
            batch = future.result()
            streams.hand_over(batch)
            yield batch
