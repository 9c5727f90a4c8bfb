"""The job under way: its scans are written, its process runs, its results are taken in. One piece a tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError

from ..engine.command import EngineCommand
from ..engine.failures import Failure, failure_of_error
from ..engine.process import EngineProcess
from ..engine.progress import JobProgress
from ..models.library import ModelLibrary
from ..scene.choices import PanelChoices
from ..scene.scan_table import Scan
from .folder import SEGMENT, TRAIN, JobFolder
from .running import RunningJob
from .segmentation import Segmentation, cancel_scan, new_segmentation
from .training import Training, can_be_finished, new_training


class CurrentJob:
    """At most one job at a time, and what is still to be shown of the last one.

    Attributes:
        training: the last or running one, and `segmentation` likewise.
        folder: of the job under way; None without one.
        progress: of the job under way, or the last one.
        failure: why the last job failed; None if it did not.
        note: how the last job ended.
        device_reason: what the engine last said about the device.
        memory: bytes that the last training took, and bytes that were free; None while unknown.
        stopping: whether the job was asked to stop.
        finishing: whether the model of a stopped training is being made.
    """

    def __init__(
        self,
        scene: Any,
        jobs: Path,
        library: ModelLibrary,
        start: Callable[[EngineCommand], EngineProcess],
        trained: Callable[[str], None],
    ) -> None:
        self.training, self.segmentation = Training(scene, library, trained), Segmentation(scene, library)
        self.folder: JobFolder | None = None
        self.progress: JobProgress | None = None
        self.failure: Failure | None = None
        self.note = ""
        self.device_reason = ""
        self.memory: tuple[int, int] | None = None
        self.stopping, self.finishing = False, False
        self._kinds: dict[str, Training | Segmentation] = {TRAIN: self.training, SEGMENT: self.segmentation}
        self._scene, self._jobs, self._library, self._start = scene, jobs, library, start
        self._running: RunningJob | None = None
        self._writing: Iterator[int] | None = None
        self._written = (0, 0)
        self._events: list[Mapping[str, Any]] = []
        self._log = ""
        self._keep = False

    @property
    def kind(self) -> str:
        """TRAIN or SEGMENT; "" when no job is under way."""
        return self.folder.record.kind if self.folder is not None else ""

    @property
    def preparing(self) -> tuple[int, int] | None:
        """How many scans of how many are written; None when that is over."""
        return self._written if self._writing is not None else None

    @property
    def log(self) -> str:
        """The whole log of the job under way, or else of the last one."""
        return self.folder.read_log() if self.folder is not None else self._log

    def train(self, scans: Sequence[Scan], choices: PanelChoices, title: str, start: str) -> None:
        """Begin to train a model called `title` on labeled scans, from the model `start`; "" for none."""
        self._write(new_training(self._jobs, choices, title, start), scans, choices)

    def segment(self, scans: Sequence[Scan], choices: PanelChoices) -> None:
        """Begin to segment scans with the chosen model.

        Raises:
            ModelError: the model cannot be used.
        """
        self._library.card(choices.model)  # whether it can be used
        model = self._library.path(choices.model)
        self._write(new_segmentation(self._jobs, choices.model, model, choices.device, scans), scans, choices)

    def resume(self, folder: JobFolder, finish: bool = False) -> None:
        """Go on with an interrupted job, or, to `finish` a training, make the model of what it has learned.

        Raises:
            ModelError: the model of a segmentation cannot be used any more.
            RequestError: the job's files are damaged.
        """
        self._kinds[folder.record.kind].resume(folder)
        self._begin(folder)
        self._run(folder, "--finish" if finish else "--resume")
        self.finishing = finish

    def stop(self, keep: bool = False) -> None:
        """Stop the job; what is done is kept, and with `keep` a model is made of what a training has learned. Its end
        comes with a later tick.
        """
        self.stopping = True
        self._keep = keep and not self.finishing
        if self._running is not None:
            self._running.stop()
        elif self.folder is not None:  # nothing but copies of scans was written yet
            self._kinds[self.kind].cancel()
            self.folder.remove()
            self._close()

    def ask_for_preview(self, scan: Scan, region: Any | None) -> None:
        """Have a scan segmented by the training under way."""
        volumes = scan.volumes(self._scene)
        if self.folder is not None and volumes:
            self.training.preview.ask(self.folder, volumes, region)

    def cancel(self, volume_id: str) -> None:
        """Take one waiting scan out of the queue."""
        if self.folder is not None:
            cancel_scan(self.folder, self.segmentation.queue, volume_id)

    def tick(self) -> None:
        """Move on by one small piece."""
        if self.folder is None:
            return
        try:
            if self._writing is not None:
                self._write_next()
            elif self._running is not None:
                self._follow(self._running)
        except (GLMAEError, OSError) as error:
            self._fail(failure_of_error(error))

    def scene_closed(self) -> None:
        """What was about its nodes is forgotten; a training goes on."""
        self.note, self.failure = "", None
        for kind, job in self._kinds.items():
            if job.scene_closed(self.kind == kind):
                self.stop()

    def leave(self) -> None:
        """Slicer quits or the module is reloaded: a running job is stopped; it can be gone on with the next time."""
        if self._running is not None:
            self._running.leave()
        elif self.folder is not None:
            self.folder.remove()
        self._close("")

    def _write(self, folder: JobFolder, scans: Sequence[Scan], choices: PanelChoices) -> None:
        self._begin(folder)
        self._written = (0, len(scans))
        self._writing = self._kinds[self.kind].write(folder, scans, choices.region)

    def _begin(self, folder: JobFolder) -> None:
        self._close()
        self.folder, self.progress, self.failure, self.note = folder, JobProgress(), None, ""

    def _run(self, folder: JobFolder, option: str = "") -> None:
        self._running = RunningJob(folder, self._start, option)
        self.progress = self._running.progress

    def _write_next(self) -> None:
        assert self._writing is not None
        assert self.folder is not None
        self.folder.alive.touch()
        try:
            self._written = (next(self._writing), self._written[1])
        except StopIteration:
            self._writing = None
            self._run(self.folder)

    def _follow(self, running: RunningJob) -> None:
        if not self._events:
            self._events = [event for event in running.poll() if event["event"] != "progress"]
        while self._events:
            event = self._events.pop(0)
            self._kinds[self.kind].take(event, running.job)
            if event["event"] == "case":  # its result may be large
                break
        self.device_reason = running.progress.device_reason or self.device_reason
        self.memory = running.progress.memory or self.memory
        if running.ended and not self._events:
            self._end(running)

    def _end(self, running: RunningJob) -> None:
        folder, log = running.job, running.job.read_log()
        if running.failure is not None:
            self._fail(running.failure)
        elif self._keep and running.stopped and can_be_finished(folder):
            self.resume(folder, finish=True)
        else:
            self.note = self._kinds[self.kind].end(folder, self._keep)
            self._close(log)

    def _fail(self, failure: Failure) -> None:
        folder = self.folder
        assert folder is not None
        self.failure = failure
        log = "\n".join([folder.read_log(), failure.sentence])
        self._kinds[self.kind].fail(folder, failure)
        self._close(log)

    def _close(self, log: str | None = None) -> None:
        self._log = log if log is not None else self.log
        self.folder, self._running, self._writing, self._events = None, None, None, []
        self.stopping = self.finishing = self._keep = False
        self.training.preview.remove(self._scene)
