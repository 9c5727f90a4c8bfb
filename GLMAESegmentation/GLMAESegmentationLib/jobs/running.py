"""A job under way: its folder, its process, and what the process has told so far."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from glmae.errors import RequestError, Stopped

from ..engine.child import STOP_SECONDS
from ..engine.command import EngineCommand, engine_command
from ..engine.event_stream import EventStream
from ..engine.failures import Failure, failure_of, not_started
from ..engine.process import STOP, EngineProcess
from ..engine.progress import JobProgress
from ..messages import say
from .case_folder import CaseFolder, ExportedCase, in_words
from .folder import FAILED, FINISHED, RUNNING, STOPPED, JobFolder

_KEPT_LINES = 200


class RunningJob:
    """Starts the process of a job whose cases are written, and follows it.

    Args:
        job: its folder; the record holds the engine's words.
        option: "--resume" to go on where the job was, "--finish" to end it with what it has learned; "" to begin.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        job: JobFolder,
        start: Callable[[EngineCommand], EngineProcess],
        option: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job, self.progress = job, JobProgress()
        self.stopping = False
        self.failure: Failure | None = None
        self._clock, self._deadline = clock, float("inf")
        self._stream = EventStream()
        self._log_rest = b""
        self._lines: list[str] = []
        self._process: EngineProcess | None = None
        words = list(job.record.words) + ([option] if option and job.record.words[0] == "finetune" else [])
        command = engine_command(words, job.folder, job.alive)
        job.alive.touch()
        job.update(state=RUNNING)
        try:
            self._process = start(command)
        except OSError as error:
            self._end(not_started(say("engine's python"), str(error)))

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._process is None

    @property
    def stopped(self) -> bool:
        """Whether it ended because it was asked to."""
        return self.job.record.state == STOPPED

    def poll(self) -> list[dict[str, Any]]:
        """Take in what came since the last call; the new events."""
        process = self._process
        if process is None:
            return []
        running = process.running()  # asked first, so that nothing written before the end is missed
        events = self._stream.feed(process.output())
        self._keep(process.log())
        if not running:
            events += self._stream.end()
        for event in events:
            if event["event"] != "progress":
                self.job.log(json.dumps(event, ensure_ascii=False))
            if isinstance(event.get("message"), str) and event["event"] != "preview":  # it has a case of its own
                message = in_words(event["message"], self.job.cases, self._cases())
                event["message"] = message.replace(str(self.job.start), f'"{self.job.record.details.get("start")}"')
            self.progress.apply(event)
        if not running:
            self._finish(process.exit_status())
        elif self._clock() > self._deadline:
            process.kill()
        return events

    def stop(self) -> None:
        """Ask the job to stop; it is ended by force if it does not follow within seconds."""
        if self._process is not None and not self.stopping:
            self.stopping = True
            self._deadline = self._clock() + STOP_SECONDS + 0.5
            self._process.write(STOP)

    def send(self, request: Mapping[str, Any]) -> None:
        """Ask something of `glmae live`."""
        if self._process is not None:
            self._process.write(json.dumps(request).encode() + b"\n")

    def kill(self) -> None:
        """End it by force, at once: nobody waits for what it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(1.0)
            self._process = None

    def leave(self) -> None:
        """Stop now and wait for it: Slicer quits or the module is reloaded. The job can be gone on with later."""
        process = self._process
        if process is None:
            return
        self.stop()
        if not process.wait(STOP_SECONDS + 0.5):
            process.kill()
            process.wait(1.0)
        self.poll()
        if self._process is not None:
            self._end(None)

    def _finish(self, status: int | None) -> None:
        progress = self.progress
        if progress.finished is not None and status in (0, 1):
            self.job.update(state=FINISHED)
            self._process = None
        elif self.stopping or (progress.failed or {}).get("name") == Stopped.__name__:
            self._end(None)
        else:
            self._end(failure_of(progress.failed, status, [*self._stream.other_lines, *self._lines], progress.device))

    def _end(self, failure: Failure | None) -> None:
        self.failure, self._process = failure, None
        if failure is not None:
            self.job.log(failure.sentence)
        self.job.update(state=STOPPED if failure is None else FAILED)

    def _cases(self) -> tuple[ExportedCase, ...]:
        with suppress(RequestError):
            return CaseFolder.read(self.job.cases).cases
        return ()

    def _keep(self, data: bytes) -> None:
        *lines, self._log_rest = (self._log_rest + data).split(b"\n")
        texts = [line.decode("utf-8", errors="replace").rstrip() for line in lines]
        if texts:
            self.job.log("\n".join(texts))
            self._lines = [*self._lines, *texts][-_KEPT_LINES:]
