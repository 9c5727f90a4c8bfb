"""The installation under way, in a process of its own, as the panel follows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..engine.command import EngineCommand, slicers_python
from ..engine.event_stream import EventStream
from ..engine.failures import Failure, sentence
from ..engine.process import STOP, EngineProcess
from ..messages import ENDINGS, failure_texts, say

# Ends that are no failures.
GOOD = ("installed", "removed", "canceled")
# From the request to stop to the end by force.
STOP_SECONDS = 6.0


class Installation:
    """Installs or removes the environment. Starts at once.

    Args:
        wheels: a folder to install from instead of the internet.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        start: Callable[[EngineCommand], EngineProcess],
        action: Literal["install", "remove"],
        root: Path,
        wheels: Path | None = None,
    ) -> None:
        words = ["-m", "GLMAESegmentationLib.setup.installer", action, str(root)]
        words += [] if wheels is None else ["--wheels", str(wheels)]
        self.sentence = say("install starting")
        self.fraction: float | None = None
        self._stream, self._log = EventStream(), b""
        self._ended: dict[str, Any] | None = None
        self._canceled, self._deadline = False, float("inf")
        self._process = start(EngineCommand(tuple(words), slicers_python()))

    def poll(self) -> Failure | None:
        """Take in what came since the last call; how it ended when it has."""
        running = self._process.running()  # asked first, so that nothing written before the end is missed
        events = self._stream.feed(self._process.output())
        self._log += self._process.log()
        if not running:
            events += self._stream.end()
        for event in events:
            if event["event"] == "step":
                self.sentence, self.fraction = say(f"install {event['step']}"), None
            elif event["event"] == "download":
                done, total = event["done"], event["total"]
                self.fraction = done / max(1, total)
                sizes = {"done": round(done / 1e6), "total": round(total / 1e6)}
                self.sentence = say("install download", package=event["package"], **sizes)
            elif event["event"] == "ended":
                self._ended = event
        if running:
            if time.monotonic() > self._deadline:
                self._process.kill()
            return None
        if self._ended is None and self._canceled:
            self._ended = {"name": "canceled"}
        return ending_of(self._ended)

    @property
    def log(self) -> str:
        """What pip and uv said."""
        return self._log.decode("utf-8", errors="replace")

    def cancel(self) -> None:
        """Ask it to stop; by force if it does not follow. What was downloaded stays."""
        self._canceled, self._deadline = True, time.monotonic() + STOP_SECONDS
        self.sentence, self.fraction = say("install stopping"), None
        self._process.write(STOP)

    def leave(self) -> None:
        """Slicer quits: it ends, and goes on when Install is pressed again."""
        self._process.write(STOP)
        if not self._process.wait(STOP_SECONDS):
            self._process.kill()
            self._process.wait(1.0)


def ending_of(event: Mapping[str, Any] | None) -> Failure:
    """How an installation ended, with cause and remedy, also where it ended well.

    Args:
        event: the installer's last one, named as in `messages.ENDINGS`; None when it ended without.
    """
    name, detail = ("interrupted", "") if event is None else (str(event["name"]), str(event.get("detail", "")))
    if name == "no space":
        free, needed = (float(number) / 1e9 for number in detail.split())
        detail = say("space", needed=needed, free=free)
    cause, remedy = failure_texts(name, detail, ENDINGS)
    return Failure(name, say("installing", ending=name), sentence(cause), remedy)
