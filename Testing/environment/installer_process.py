"""The installer as the panel starts it, followed to its end or interrupted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from GLMAESegmentationLib.engine.command import MODULE_FOLDER, clean_environment


class InstallerProcess:
    """One run of it, with variables that are cleaned as by the panel.

    Args:
        action: install or remove.
        root: of the environment.
        words: further words.
        variables: added to those of the tests.
    """

    def __init__(self, action: str, root: Path, words: Sequence[str], variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "GLMAESegmentationLib.setup.installer", action, str(root), *words],
            env=clean_environment(os.environ | variables),
            cwd=MODULE_FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=(stream, keep), daemon=True)
            for stream, keep in ((self._process.stdout, self._event), (self._process.stderr, self._line))
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float = 600) -> tuple[str, str]:
        """Name and detail of its ending; of what it said, the end, when there is none."""
        self._process.wait(seconds)
        for thread in self._threads:
            thread.join()
        last = self.events[-1] if self.events else {}
        assert last.get("event") == "ended", "\n".join(self.lines[-30:])
        return last["name"], last["detail"]

    def when(self, said: str, seconds: float = 300) -> None:
        """Wait until a line with these words was printed."""
        end = time.monotonic() + seconds
        while not any(said in line for line in list(self.lines)):
            assert self._process.poll() is None, "\n".join(self.lines[-30:])
            assert time.monotonic() < end, "\n".join(self.lines[-30:])
            time.sleep(0.01)

    def kill(self) -> None:
        """As by the system, or by a crash: nobody is told."""
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """The parent is gone: the stream ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _event(self, line: str) -> None:
        self.events.append(json.loads(line))
        self._line(line)

    def _line(self, line: str) -> None:
        self.lines.append(line)

    def _collect(self, stream: Any, keep: Callable[[str], None]) -> None:
        for data in stream:
            keep(data.decode("utf-8", errors="replace").rstrip())
