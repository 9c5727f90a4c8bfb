"""Training batches made in advance, by threads, while a GPU computes: cropping and changing take longer than a step."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from .crops import Batch

# A crop of a few million voxels takes some 100 MB while it is made.
MOST_THREADS = 8


class BatchesAhead:
    """The batches of a run, those of the next steps being made already.

    A batch follows from its step alone, so that those that are made in advance are those that would be made in time.

    Args:
        make: the batch of a step; called from several threads.
        threads: as many batches are made at once; None: as many as the machine has to spare.
    """

    def __init__(self, make: Callable[[int], Batch], threads: int | None = None) -> None:
        self._make = make
        self._threads = threads or max(1, min(MOST_THREADS, (os.cpu_count() or 2) - 1))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="batches")
        self._coming: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """The batch of one step; an error in making it is raised here."""
        for number in range(step, step + self._threads + 1):
            if number not in self._coming:
                self._coming[number] = self._pool.submit(self._make, number)
        for number in [number for number in self._coming if number < step]:
            self._coming.pop(number).cancel()
        return self._coming.pop(step).result()
