"""What another Python answers: a program in a process of its own, because torch must stay out of Slicer's."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.command import EngineCommand
from ..engine.process import EngineProcess

# Which packages an interpreter has, as JSON; and the check of the set-up, see `set_up_report`.
INSPECTION = ("-m", "GLMAESegmentationLib.setup.packages")
CHECK = ("-m", "glmae.set_up_check")


class Answer:
    """Starts a program at once.

    Args:
        start: starts a process.
        arguments: of the interpreter.
        python: the interpreter; "" for the one that the user chose.

    Attributes:
        text: what the program has printed, and `log` what it has written to standard error.
        status: with which it ended; None before, and when it crashed.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, start: Callable[[EngineCommand], EngineProcess], arguments: tuple[str, ...], python: str = ""
    ) -> None:
        self.python, self.text, self.log = python, "", ""
        self.status: int | None = None
        self._process = start(EngineCommand(arguments, python))
        self._output, self._errors = b"", b""

    def poll(self) -> bool:
        """Take in what came since the last call; whether it is over."""
        running = self._process.running()  # asked first, so that nothing written before the end is missed
        self._output += self._process.output()
        self._errors += self._process.log()
        self.text, self.log = (data.decode("utf-8", "replace").strip() for data in (self._output, self._errors))
        self.status = None if running else self._process.exit_status()
        return not running

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._process.kill()
        self._process.wait(1.0)
