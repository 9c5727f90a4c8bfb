from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import Future
from contextlib import closing

import pytest

from glmae.prefetch import VOXELS_AT_ONCE, in_parallel, prefetch


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.setattr("glmae.prefetch.os.cpu_count", lambda: 4)


class Work:
    """Squares; each waits a moment for `hoped` to be worked on at once."""

    def __init__(self, hoped: int = 0):
        self.begun: list[int] = []
        self.at_once = self.most = 0
        self._hoped, self._changed = hoped, threading.Condition()

    def __call__(self, item: int) -> int:
        with self._changed:
            self.begun.append(item)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self._hoped, timeout=0.2)
            self.at_once -= 1
        if item == 3:
            raise ValueError("three")
        return item * item


def values(futures: list[Future[int]]) -> list[int | None]:
    return [None if future.exception() else future.result() for future in futures]


@pytest.mark.usefixtures("four_threads")
def test_results_come_in_order_and_failures_with_them():
    work = Work(hoped=4)
    assert values(list(in_parallel(work, range(12), voxels=lambda result: 1))) == [
        None if n == 3 else n * n for n in range(12)
    ]
    assert work.most == 4


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("voxels", "most"), [(VOXELS_AT_ONCE, 1), (VOXELS_AT_ONCE // 2, 2)])
def test_large_scans_are_worked_on_by_fewer_threads(voxels, most):
    work = Work(hoped=most + 1)
    list(in_parallel(work, range(8), voxels=lambda result: voxels))
    assert work.most == most


@pytest.mark.usefixtures("four_threads")
def test_nothing_new_is_begun_when_the_caller_stops_and_little_is_ahead():
    work = Work()
    coming = in_parallel(work, range(100), voxels=lambda result: 1)
    for _ in range(5):
        next(coming)
    coming.close()
    assert len(work.begun) <= 5 + 4
    begun = len(work.begun)
    time.sleep(0.05)
    assert len(work.begun) == begun


def test_nothing_is_begun_while_a_failure_is_looked_at():
    begun: list[int] = []

    def work(item):
        begun.append(item)
        if item == 1:
            raise ValueError("one")
        return item

    with closing(prefetch(work, itertools.count(), 1, lambda result: 1)) as coming:
        assert next(coming).result() == 0
        assert isinstance(next(coming).exception(), ValueError)
        time.sleep(0.05)
        assert begun == [0, 1], "whoever tries it again has all the memory"
        assert next(coming).result() == 2


def test_no_items_no_results():
    assert list(in_parallel(Work(), [], voxels=lambda result: 1)) == []
