"""An engine process: what a front end must be able to do with it."""

from __future__ import annotations

from typing import Protocol

# Written to a process, it asks it to stop at its next step, see `engine.child`.
STOP = b"stop\n"


class EngineProcess(Protocol):
    """A process that is asked for news now and then; no call waits."""

    def output(self) -> bytes:
        """What it wrote to standard output since the last call."""

    def log(self) -> bytes:
        """What it wrote to standard error since the last call."""

    def running(self) -> bool:
        """Whether it has not ended yet."""

    def exit_status(self) -> int | None:
        """Its exit status; None while it runs, when it did not start, and when it crashed."""

    def write(self, data: bytes) -> None:
        """Write to its standard input: `STOP`, or a request to `glmae live`, a line each."""

    def kill(self) -> None:
        """End it by force."""

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has ended."""
