"""An engine process that needs nothing but Python, for panels without a window."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress
from typing import IO

from GLMAESegmentationLib.engine.command import EngineCommand


class PlainProcess:
    """An `EngineProcess` by `subprocess`, without Qt.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: EngineCommand) -> None:
        self._process = subprocess.Popen(
            [command.program, *command.arguments],
            env=dict(command.environment),
            cwd=command.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        self._lock = threading.Lock()
        self._received = {"output": bytearray(), "log": bytearray()}
        self._threads = [
            threading.Thread(target=self._collect, args=(stream, name), daemon=True)
            for stream, name in ((self._process.stdout, "output"), (self._process.stderr, "log"))
        ]
        for thread in self._threads:
            thread.start()

    def output(self) -> bytes:
        """See `EngineProcess`."""
        return self._take("output")

    def log(self) -> bytes:
        """See `EngineProcess`."""
        return self._take("log")

    def running(self) -> bool:
        """See `EngineProcess`."""
        # What was written is taken in to its end before the process counts as ended.
        return self._process.poll() is None or any(thread.is_alive() for thread in self._threads)

    def exit_status(self) -> int | None:
        """See `EngineProcess`."""
        status = self._process.poll()
        return None if status is None or status < 0 else status

    def write(self, data: bytes) -> None:
        """See `EngineProcess`."""
        with suppress(OSError):  # it has ended meanwhile
            assert self._process.stdin is not None
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def kill(self) -> None:
        """See `EngineProcess`."""
        with suppress(OSError):
            self._process.kill()

    def wait(self, seconds: float) -> bool:
        """See `EngineProcess`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        for thread in self._threads:
            thread.join(0.0 if self._process.poll() is None else 1.0)
        return not self.running()

    def _take(self, name: str) -> bytes:
        with self._lock:
            data = bytes(self._received[name])
            self._received[name].clear()
        return data

    def _collect(self, stream: IO[bytes] | None, name: str) -> None:
        assert stream is not None
        while data := stream.read1(65536):  # type: ignore[attr-defined]
            with self._lock:
                self._received[name] += data
        stream.close()
