"""What Ctrl-C and a polite kill mean to a job: to stop at the next step, with what it has so far."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Ctrl-C and a polite kill ask the job to stop at the next step; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[int, Any] = {}

    def stopped(self) -> bool:
        """Whether the user asked to stop."""
        return self._asked

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # signals reach no other thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
