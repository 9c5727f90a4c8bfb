"""The check of the set-up under way, in a process of its own: torch must stay out of Slicer's."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.command import EngineCommand
from ..engine.process import EngineProcess

# Its output is the `check` of `set_up_report`.
ARGUMENTS = ("-m", "glmae.set_up_check")


class RunningCheck:
    """Starts the check at once.

    Args:
        start: starts a process.
        python: to run it in; "" for the one that the user chose.

    Attributes:
        works: whether all packages are there and a device computes; False while it is not over.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, start: Callable[[EngineCommand], EngineProcess], python: str = "") -> None:
        self.works = False
        self._process = start(EngineCommand(ARGUMENTS, python))
        self._output, self._log = b"", b""

    def poll(self) -> str | None:
        """What it printed when it is over; None before."""
        running = self._process.running()  # asked first, so that nothing written before the end is missed
        self._output += self._process.output()
        self._log += self._process.log()
        if running:
            return None
        text = self._output.decode("utf-8", errors="replace").strip()
        status = self._process.exit_status()
        self.works = status == 0 and " MISSING" not in text
        reason = self._log.decode("utf-8", errors="replace").strip()[-500:]
        return text or f"The check ended with status {status}: {reason}"

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._process.kill()
        self._process.wait(1.0)
