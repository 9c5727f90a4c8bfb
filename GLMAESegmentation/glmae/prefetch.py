"""Work that threads do ahead of its use; the results come in the order of the items.

Threads and not processes: SimpleITK, numpy and torch compute without the interpreter's lock, and threads need no
guarded main module, as spawned processes do on Windows and macOS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    ahead: Callable[[Result], int],
    initializer: Callable[[], None] | None = None,
) -> Generator[Future[Result], None, None]:
    """Call `work(item)` for all items, some of them while earlier results are used.

    The first item is worked on alone. When the caller takes no more results, nothing new is begun; nor is it while a
    failure is looked at. Such a caller closes this: the garbage collector may let a thread wait for itself.

    Args:
        work: safe to be called from several threads.
        items: taken as they are needed; may be endless.
        threads: that work.
        ahead: after each result: how many further ones may be in work, or wait to be taken.
        initializer: called in each thread first.

    Yields:
        For each item, in order, a finished future.
    """
    waiting, coming, most = iter(items), deque[Future[Result]](), 1
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
