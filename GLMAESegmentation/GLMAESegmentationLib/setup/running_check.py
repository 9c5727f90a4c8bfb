"""The check of the set-up under way, in a process of its own: torch must stay out of Slicer's."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.command import EngineCommand, environment, interpreter
from ..engine.process import EngineProcess
from .set_up_report import check_command, set_up_report


class RunningCheck:
    """Starts the check at once.

    Args:
        start: starts a process.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, start: Callable[[EngineCommand], EngineProcess]) -> None:
        self._process = start(EngineCommand(interpreter(), check_command(), environment()))
        self._output, self._log = b"", b""

    def poll(self) -> str | None:
        """The whole report when the check is over; None before."""
        running = self._process.running()  # asked first, so that nothing written before the end is missed
        self._output += self._process.output()
        self._log += self._process.log()
        if running:
            return None
        text = self._output.decode("utf-8", errors="replace").strip()
        reason = self._log.decode("utf-8", errors="replace").strip()[-500:]
        return set_up_report(text or f"The check ended with status {self._process.exit_status()}: {reason}")

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._process.kill()
        self._process.wait(1.0)
