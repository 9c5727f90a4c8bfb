"""Work that threads do ahead of its use; the results come in the order of the items.

Threads and not processes: SimpleITK, numpy and torch compute without the interpreter's lock, and threads need no
guarded main module, as spawned processes do on Windows and macOS.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

# A scan that is being resampled takes some 16 bytes a voxel: together about 4 GiB.
VOXELS_AT_ONCE = 2**28
MOST_THREADS = 8


def prefetch(
    work: Callable[[Item], Done],
    items: Iterable[Item],
    threads: int,
    ahead: Callable[[Done], int],
    initializer: Callable[[], None] | None = None,
) -> Generator[Future[Done], None, None]:
    """Call `work(item)` for all items, some of them while earlier results are used.

    The first item is worked on alone. When the caller takes no more results, nothing new is begun; nor is it while a
    failure is looked at. Such a caller closes this: the garbage collector may let a thread wait for itself.

    Args:
        work: safe to be called from several threads.
        items: taken as they are needed; may be endless.
        ahead: after each result: how many further ones may be in work, or wait to be taken.

    Yields:
        For each item, in order, a finished future.
    """
    waiting, coming, most = iter(items), deque[Future[Done]](), 1
    with ThreadPoolExecutor(threads, "ahead", initializer) as pool:

        def begin() -> None:
            coming.extend(pool.submit(work, item) for item in islice(waiting, max(0, most - len(coming))))

        try:
            begin()
            while coming:
                first = coming.popleft()
                if first.exception() is None:  # waits
                    most = max(1, ahead(first.result()))
                    begin()
                yield first
                begin()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_parallel(
    work: Callable[[Item], Done], items: Sequence[Item], voxels: Callable[[Done], int]
) -> Generator[Future[Done], None, None]:
    """`prefetch` with as many threads as scans like the last one fit into memory together.

    Args:
        voxels: of the scan behind a result, all channels.
    """
    threads = max(1, min(MOST_THREADS, os.cpu_count() or 1, len(items)))
    return prefetch(work, items, threads, lambda result: min(threads, VOXELS_AT_ONCE // max(1, voxels(result))))
