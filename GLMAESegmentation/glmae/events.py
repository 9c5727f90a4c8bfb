"""What a running job tells the outside: one event at a time, to a terminal, to another process, or to a test.

Every event is a flat JSON object `{"event": KIND, ...}`; the kinds and their fields are listed in docs/events.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from threading import RLock
from typing import Any, TextIO

Sink = Callable[[dict[str, Any]], None]


class Events:
    """Sends events to one sink, from any thread, one at a time. A job gets an `Events` and never prints."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._lock = sink, RLock()

    def emit(self, event: str, **fields: Any) -> None:
        """Send one event; `fields` must be JSON-serializable."""
        with self._lock:
            self._sink({"event": event, **fields})

    def started(self, job: str, **fields: Any) -> None:
        """A job begins. `job` is the command: pretrain, finetune, ..."""
        self.emit("started", job=job, **fields)

    def progress(self, stage: str, done: int, total: int, seconds_left: float | None = None, **fields: Any) -> None:
        """`done` of `total` units of `stage` are finished; `seconds_left` is an estimate."""
        self.emit("progress", stage=stage, done=done, total=total, seconds_left=seconds_left, **fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something the user should know, after which the job goes on."""
        self.emit("warning", message=message, **fields)

    def info(self, message: str, **fields: Any) -> None:
        """A decision the job took by itself, in one sentence."""
        self.emit("info", message=message, **fields)

    def case(self, case: str, state: str, **fields: Any) -> None:
        """One case of many changed its state: running, done, skipped or failed (then with `message`)."""
        self.emit("case", case=case, state=state, **fields)

    def finished(self, job: str, **fields: Any) -> None:
        """The job ended; `fields` say where its results are."""
        self.emit("finished", job=job, **fields)

    def failed(self, name: str, message: str, **fields: Any) -> None:
        """The job ended without its result. `name` is the error's class name."""
        self.emit("failed", name=name, message=message, **fields)


def silent() -> Events:
    """Events that go nowhere: the default of every job called from Python."""
    return Events(lambda event: None)


def recorded(into: list[dict[str, Any]]) -> Events:
    """Events appended to a list."""
    return Events(into.append)


def json_lines(stream: TextIO | None = None) -> Events:
    """One JSON object a line, flushed, for a front end that reads the process's standard output."""
    out = stream if stream is not None else sys.stdout

    def sink(event: dict[str, Any]) -> None:
        # ASCII only: the reader's code page (Windows) must not matter.
        out.write(json.dumps(event, ensure_ascii=True) + "\n")
        out.flush()

    return Events(sink)
