"""The standard output of an engine process as events: one JSON object a line, lines arriving in pieces."""

from __future__ import annotations

import json
from typing import Any

# A line that never ends is no event; it must not fill the memory of Slicer.
LONGEST_LINE = 1_000_000


class EventStream:
    """Collects bytes and gives the events that are complete. Lines that are no events are kept for the log."""

    def __init__(self) -> None:
        self._rest = b""
        self.other_lines: list[str] = []

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The events that `data` completes, in order."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        return [event for line in lines if (event := self._event(line)) is not None]

    def end(self) -> list[dict[str, Any]]:
        """The last event, if the process ended without a line break."""
        line, self._rest = self._rest, b""
        event = self._event(line)
        return [] if event is None else [event]

    def _event(self, line: bytes) -> dict[str, Any] | None:
        text = line.decode("utf-8", errors="replace").strip()
        if not text:
            return None
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            return event
        self.other_lines.append(text[:1000])
        return None
