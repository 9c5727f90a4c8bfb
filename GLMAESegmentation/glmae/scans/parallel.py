"""Work on several scans at once, results in the order of the scans."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future

from ..prefetch import Item, Result, prefetch

# A scan that is being resampled takes some 16 bytes a voxel: together about 4 GiB.
VOXELS_AT_ONCE = 2**28
MOST_THREADS = 8


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], voxels: Callable[[Result], int]
) -> Generator[Future[Result], None, None]:
    """`prefetch` with as many threads as scans like the last one fit into memory together.

    Args:
        work: safe to be called from several threads.
        items: for instance cases.
        voxels: of the scan behind a result, all channels.
    """
    threads = max(1, min(MOST_THREADS, os.cpu_count() or 1, len(items)))
    return prefetch(work, items, threads, lambda result: min(threads, VOXELS_AT_ONCE // max(1, voxels(result))))
