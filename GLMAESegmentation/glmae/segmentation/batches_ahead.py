"""Training batches made in advance, by threads, while a GPU computes: reading and changing crops takes time, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from ..side_streams import SideStreams
from .crops import Batch

# Some 100 MB of the GPU's memory each, while a crop of a million voxels is made.
MOST_THREADS = 4


class BatchesAhead:
    """The batches of a run, those of the next steps being made already.

    A batch follows from its step alone, so that those that are made in advance are those that would be made in time. On
    a GPU each thread has a stream of its own: in that of the network it would wait for the step that is computed there.

    Args:
        make: the batch of a step; called from several threads.
        threads: as many batches are made at once; None: as many as the machine has to spare.
        device: where batches are made.
    """

    def __init__(
        self, make: Callable[[int], Batch], threads: int | None = None, device: torch.device | None = None
    ) -> None:
        self._make = make
        self._threads = threads or max(1, min(MOST_THREADS, (os.cpu_count() or 2) - 1))
        self._streams = SideStreams(device)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="batches")
        self._coming: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """The batch of one step; an error in making it is raised here."""
        for number in range(step, step + self._threads + 1):
            if number not in self._coming:
                self._coming[number] = self._pool.submit(self._made, number)
        for number in [number for number in self._coming if number < step]:
            self._coming.pop(number).cancel()
        batch = self._coming.pop(step).result()
        self._streams.hand_over(batch)
        return batch

    def _made(self, step: int) -> Batch:
        return self._streams.run(lambda: self._make(step))
