"""An engine process by Qt, so that Slicer's event loop reads its pipes."""

from __future__ import annotations

from typing import Any

import qt

from ..engine.command import EngineCommand

START_MILLISECONDS = 5000


class QtProcess:
    """An `EngineProcess`, see there.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: EngineCommand) -> None:
        environment = qt.QProcessEnvironment()
        for name, value in command.environment.items():
            environment.insert(name, value)
        self._process: Any = qt.QProcess()
        self._process.setProcessEnvironment(environment)
        if command.folder is not None:
            self._process.setWorkingDirectory(str(command.folder))
        self._process.start(command.program, list(command.arguments))
        if not self._process.waitForStarted(START_MILLISECONDS):
            raise OSError(self._process.errorString())

    def output(self) -> bytes:
        """See `EngineProcess`."""
        return bytes(self._process.readAllStandardOutput().data())

    def log(self) -> bytes:
        """See `EngineProcess`."""
        return bytes(self._process.readAllStandardError().data())

    def running(self) -> bool:
        """See `EngineProcess`."""
        return bool(self._process.state() != qt.QProcess.NotRunning)

    def exit_status(self) -> int | None:
        """See `EngineProcess`."""
        if self.running() or self._process.exitStatus() != qt.QProcess.NormalExit:
            return None
        return int(self._process.exitCode())

    def write(self, data: bytes) -> None:
        """See `EngineProcess`."""
        self._process.write(data)

    def kill(self) -> None:
        """See `EngineProcess`. PythonSlicer is a launcher: its child ends because its standard input does."""
        self._process.closeWriteChannel()
        self._process.kill()

    def wait(self, seconds: float) -> bool:
        """See `EngineProcess`."""
        self._process.waitForFinished(int(1000 * seconds))
        return not self.running()
