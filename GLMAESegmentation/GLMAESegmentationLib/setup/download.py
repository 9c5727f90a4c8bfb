"""How far a download is: from uv's lines, and from what it has written so far."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# A wheel is unpacked while it arrives, and packed it is about this large.
_PACKED = 0.4


class Download:
    """One run of uv."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._arriving: dict[str, float] = {}
        self._arrived, self._written, self._told = 0.0, 0, 0

    def read(self, line: str) -> None:
        """Take in a line of uv: `Downloading torch (850.3MiB)`, ` Downloaded torch`."""
        begun = re.match(r"\s*Downloading (\S+) \(([\d.]+) ?(B|KiB|MiB|GiB)\)", line)
        ended = re.match(r"\s*Downloaded (\S+)", line)
        if begun:
            if not self._arriving:
                self._written = self._unpacked()
            self._arriving[begun[1]] = float(begun[2]) * _UNITS[begun[3]]
        elif ended and ended[1] in self._arriving:
            self._arrived += self._arriving.pop(ended[1])
            self._written = self._unpacked()

    def progress(self) -> dict[str, Any] | None:
        """`package` that arrives (the largest), bytes that are `done` and in `total`; None while nothing arrives."""
        arriving = dict(self._arriving)
        if not arriving:
            return None
        announced = sum(arriving.values())
        # uv says nothing between the two lines of a package, which for PyTorch are minutes apart.
        part = min(0.99 * announced, max(0, self._unpacked() - self._written) * _PACKED)
        largest = max(arriving, key=lambda name: arriving[name])
        self._told = max(self._told, round(self._arrived + part))
        return {"package": largest, "done": self._told, "total": round(self._arrived + announced)}

    def _unpacked(self) -> int:
        """Bytes of what is being unpacked; what is complete has been moved elsewhere."""
        total = 0
        with suppress(OSError):  # it is moved meanwhile
            for folder in self._cache.glob(".tmp*"):
                for path, _folders, files in os.walk(folder):
                    for file in files:
                        with suppress(OSError):
                            total += os.stat(os.path.join(path, file)).st_size
        return total
