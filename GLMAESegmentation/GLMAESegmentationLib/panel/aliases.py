"""Aliases of the scans in a log that may be sent to others: volumes are often named after patients."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

_SHORTEST = 3  # a volume named "1" or "CT" tells nothing, and is everywhere in a log


class Aliases:
    """The scans seen so far, also those that were deleted since: `scan-01`, `scan-02`, ... in this order."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def see(self, names: Iterable[str]) -> None:
        """Remember the names of the scans that are in the scene now."""
        for name in names:
            if len(name) >= _SHORTEST and name not in self._of:
                self._of[name] = f"scan-{len(self._of) + 1:02d}"

    def hide(self, text: str) -> str:
        """`text` with aliases for the names, and `~` for the folder of the person at this computer."""
        home = str(Path.home())
        for written in (json.dumps(home, ensure_ascii=False)[1:-1], home):  # as in an event, and as it is
            text = text.replace(written, "~")
        for name in sorted(self._of, key=len, reverse=True):  # a name may be part of a longer one
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self._of[name], text)
        return text
