"""Several processes on one list of cases, on one machine or many: no case twice at a time, and none lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from ..errors import RequestError
from ..files import storage_error

_T = TypeVar("_T")


@dataclass(frozen=True)
class Rank:
    """Which of how many processes this is.

    Attributes:
        number: 0 to count - 1.
        count: of the processes that share the list.
    """

    number: int = 0
    count: int = 1

    @staticmethod
    def here(environment: Mapping[str, str] = os.environ) -> Rank:
        """As torchrun (RANK, WORLD_SIZE) or SLURM says: each task of a step of each task of an array is one rank.

        Raises:
            RequestError: the variables contradict each other.
        """
        number, count = 0, 1
        for index, size in (
            (_number(environment, "RANK"), _number(environment, "WORLD_SIZE")),
            # Numbers of an array need not start at 0 nor be dense: `--array=10-40:10`.
            (_array_task(environment), _number(environment, "SLURM_ARRAY_TASK_COUNT")),
            (_number(environment, "SLURM_PROCID"), _number(environment, "SLURM_STEP_NUM_TASKS")),
        ):
            if index is None or size is None:
                continue
            if not 0 <= index < size:
                raise RequestError(
                    f"this process is number {index} of {size}; correct RANK and WORLD_SIZE, or those of SLURM."
                )
            number, count = number * size + index, count * size
            if "RANK" in environment and "WORLD_SIZE" in environment:
                break  # torchrun inside a SLURM job has counted its tasks already
        return Rank(number, count)

    def order(self, cases: Sequence[_T]) -> list[tuple[_T, bool]]:
        """All cases in the order in which this process takes them, and whether a case is in its own share.

        The shares of the others come last and from their ends, in case their process is slow, or dead.
        """
        own = [(case, True) for case in cases[self.number :: self.count]]
        for step in range(1, self.count):
            other = cases[(self.number + step) % self.count :: self.count]
            own += [(case, False) for case in reversed(other)]
        return own


class Claims:
    """Locks in a folder that all processes see. The lock of a process that died is free at once.

    Args:
        folder: made when the first case is claimed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def claim(self, name: str, own: bool) -> Iterator[bool]:
        """Whether this process has the case called `name` for the length of the block.

        Where the file system has no locks, each process keeps to its `own` share.

        Raises:
            StorageError: the folder cannot be written.
        """
        path = self._folder / f"{name}.lock"
        lock = FileLock(path, thread_local=False)  # another thread may give it free
        try:
            self._acquire(lock, seconds=0)
        except Timeout:
            yield False
            return
        except NotImplementedError:
            yield own
            return
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            yield True
        finally:
            # A process that has just opened the file gets a lock that no other sees; it will find the result there.
            with suppress(OSError):
                path.unlink()
            lock.release()

    @contextmanager
    def wait(self, name: str) -> Iterator[None]:
        """The same for short work that every process does in its turn; after a minute it is done all the same."""
        path = self._folder / f"{name}.lock"
        lock = FileLock(path)
        with suppress(OSError, NotImplementedError):  # a time-out is an OSError, too
            self._acquire(lock, seconds=60)
        try:
            yield
        finally:
            lock.release()
            with suppress(OSError):
                path.unlink()
                self._folder.rmdir()  # unless others are at work

    def _acquire(self, lock: FileLock, seconds: float) -> None:
        for _ in range(9):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=seconds)
                return
            except FileNotFoundError:  # another process has just removed the folder
                continue
        raise FileNotFoundError(errno.ENOENT, "the folder vanishes again and again", str(self._folder))


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise RequestError(f"{name}={text} is not a number; correct this environment variable or unset it.") from error


def _array_task(environment: Mapping[str, str]) -> int | None:
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") or 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") or 1
    return None if task is None else (task - first) // step
