"""Work on several scans at once, results in the order of the scans.

In threads: SimpleITK reads, unpacks and resamples without the interpreter's lock, and threads need no guarded main
module, as spawned processes do on Windows and macOS.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# A scan that is being resampled takes some 16 bytes a voxel: together about 4 GiB.
VOXELS_AT_ONCE = 2**28
MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], voxels: Callable[[Result], int]
) -> Generator[Future[Result], None, None]:
    """Call `work(item)` for all items, several at once.

    The first scan is worked on alone; its size tells how many of its like fit into memory together. Few results wait to
    be taken, so that memory does not grow with the number of items. A caller that stops taking results closes this, and
    nothing new is begun: left to the garbage collector, a thread may come to wait for itself.

    Args:
        work: safe to be called from several threads.
        items: for instance cases.
        voxels: of the scan behind a result, all channels.

    Yields:
        For each item, in order, a finished future.
    """
    threads = max(1, min(MOST_THREADS, os.cpu_count() or 1, len(items)))
    coming: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="scans") as pool:
        try:
            together = 1
            for item in items:
                coming.append(pool.submit(work, item))
                if len(coming) < together:
                    continue
                first = coming.popleft()
                if first.exception() is None:
                    together = max(1, min(threads, VOXELS_AT_ONCE // max(1, voxels(first.result()))))
                yield first
            while coming:
                first = coming.popleft()
                first.exception()  # waits
                yield first
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
