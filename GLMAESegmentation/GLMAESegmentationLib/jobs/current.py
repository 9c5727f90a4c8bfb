"""The job under way: its scans are written, its process runs, its results are taken in. One piece a tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError, StorageError

from ..engine.command import EngineCommand
from ..engine.failures import Failure, failure_of, failure_of_error
from ..engine.process import EngineProcess
from ..engine.progress import JobProgress
from ..models.library import ModelLibrary
from ..scene.choices import PanelChoices
from ..scene.scan_table import Scan
from ..translation import tr as _
from .case_folder import CaseFolder
from .folder import FAILED, FINISHED, SEGMENT, TRAIN, JobFolder
from .label_findings import Finding, findings_of
from .preview import TrainingPreview
from .queue import CANCELED, QueuedScan, SegmentationQueue
from .running import RunningJob
from .segmentation import cancel_scan, import_result, new_segmentation, queue_of, write_scans
from .training import can_be_finished, keep_model, new_training, write_training_cases


class CurrentJob:
    """At most one job at a time, and what is still to be shown of the last one.

    Args:
        scene: the vtkMRMLScene.
        jobs: the folder of all jobs.
        library: where trained models go.
        start: starts a process. Raises OSError if it cannot.
        trained: called with the name of a model that was trained.

    Attributes:
        folder: of the job under way; None without one.
        progress: of the job under way, or the last one.
        queue: of the segmentation under way, or the last one.
        failure: why the last job failed; None if it did not.
        note: how the last job ended.
        device_reason: what the engine last said about the device.
        memory: bytes that the last training took, and bytes that were free; None while unknown.
        results: IDs of the segmentations that the last segmentation made.
        scan_failures: why a scan could not be segmented, by the ID of its volume.
        findings: what the engine finds odd about the labels of the last training.
        stopping: whether the job was asked to stop.
        finishing: whether the model of a stopped training is being made.
        preview: of the training under way.
        drawn: ID of the segmentation that is open for drawing, which nothing replaces.
    """

    def __init__(
        self,
        scene: Any,
        jobs: Path,
        library: ModelLibrary,
        start: Callable[[EngineCommand], EngineProcess],
        trained: Callable[[str], None],
    ) -> None:
        self.folder: JobFolder | None = None
        self.progress: JobProgress | None = None
        self.queue: SegmentationQueue | None = None
        self.failure: Failure | None = None
        self.note = ""
        self.device_reason = ""
        self.memory: tuple[int, int] | None = None
        self.results: list[str] = []
        self.scan_failures: dict[str, str] = {}
        self.findings: list[Finding] = []
        self.stopping, self.finishing = False, False
        self.preview, self.drawn = TrainingPreview(), ""
        self._scene, self._jobs, self._library, self._start, self._trained = scene, jobs, library, start, trained
        self._running: RunningJob | None = None
        self._writing: Iterator[int] | None = None
        self._written = (0, 0)
        self._files: list[tuple[str, Path]] = []
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

    def train(self, scans: Sequence[Scan], choices: PanelChoices, title: str) -> None:
        """Begin to train a model called `title` on labeled scans."""
        folder = self._begin(new_training(self._jobs, choices, title))
        self.findings = []
        self._written = (0, len(scans))
        self._writing = write_training_cases(folder, scans, self._scene, choices.region)

    def segment(self, scans: Sequence[Scan], choices: PanelChoices) -> None:
        """Begin to segment scans with the chosen model.

        Raises:
            ModelError: the model cannot be used.
        """
        self._library.card(choices.model)  # whether it can be used
        model_folder = self._library.path(choices.model)
        folder = self._begin(new_segmentation(self._jobs, choices.model, model_folder, choices.device, scans))
        self.queue = SegmentationQueue(QueuedScan(scan.volume_id, scan.name, channels=scan.channels) for scan in scans)
        self.results = []
        for scan in scans:
            self.scan_failures.pop(scan.volume_id, None)
        self._written = (0, len(scans))
        self._writing = write_scans(folder, self.queue, self._scene, choices.region)

    def resume(self, folder: JobFolder, finish: bool = False) -> None:
        """Go on with an interrupted job, or, to `finish` a training, make the model of what it has learned.

        Raises:
            ModelError: the model of a segmentation cannot be used any more.
            RequestError: the job's files are damaged.
        """
        if folder.record.kind == SEGMENT:
            self._library.card(str(folder.record.details["model"]))  # whether it can be used
            self.queue = queue_of(folder, self._scene)
            self.results = []
        self._run(self._begin(folder), "--finish" if finish else "--resume")
        self.finishing = finish

    def stop(self, keep: bool = False) -> None:
        """Stop the job; what is done is kept. Its end comes with a later tick.

        Args:
            keep: then make the model of what a training has learned.
        """
        self.stopping = True
        self._keep = keep and not self.finishing
        if self._running is not None:
            self._running.stop()
        elif self.folder is not None:  # nothing but copies of scans was written yet
            if self.queue is not None:
                self.queue.close(CANCELED)
            self.folder.remove()
            self._close()

    def ask_for_preview(self, scan: Scan, region: Any | None) -> None:
        """Have a scan segmented by the training under way."""
        volumes = scan.volumes(self._scene)
        if self.folder is not None and volumes:
            self.preview.ask(self.folder, volumes, region)

    def cancel(self, volume_id: str) -> None:
        """Take one waiting scan out of the queue."""
        if self.folder is not None and self.queue is not None:
            cancel_scan(self.folder, self.queue, volume_id)

    def tick(self) -> None:
        """Move on by one small piece."""
        if self.folder is None:
            return
        try:
            if self._writing is not None:
                self._write_next()
            elif self._files:
                self._take_result(*self._files.pop(0))
            elif self._running is not None:
                self._follow(self._running)
        except GLMAEError as error:
            self._fail(failure_of_error(error))

    def scene_closed(self) -> None:
        """A training goes on; results of a segmentation have nowhere to go to any more."""
        self.results, self.note, self.findings, self.failure = [], "", [], None
        self.preview.remove(self._scene)
        self.scan_failures.clear()
        if self.kind == SEGMENT:
            self.stop()
        elif self.folder is None:
            self.queue = None

    def leave(self) -> None:
        """Slicer quits or the module is reloaded: a running job is stopped; it can be gone on with the next time."""
        if self._running is not None:
            self._running.leave()
        elif self.folder is not None:
            self.folder.remove()
        self.preview.remove(self._scene)
        self.folder, self._running, self._writing = None, None, None

    def _begin(self, folder: JobFolder) -> JobFolder:
        self.folder, self._running, self._writing = folder, None, None
        self.progress, self.stopping, self.failure, self.note, self._files = JobProgress(), False, None, "", []
        self._keep, self.finishing = False, False
        return folder

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
        for event in running.poll():
            if event["event"] == "case" and self.queue is not None and self.kind == SEGMENT:
                case, state = str(event.get("case")), str(event.get("state"))
                self.queue.case_event(case, state, failure_of(event, None, []).reason if state == "failed" else "")
                if state in ("done", "skipped") and event.get("file"):
                    self._files.append((case, Path(str(event["file"]))))
            elif event["event"] == "warning" and self.kind == TRAIN:
                self.findings += findings_of(event, CaseFolder.read(running.job.cases).cases)
            elif event["event"] == "preview":
                self.preview.take(event, self._scene)
        self.device_reason = running.progress.device_reason or self.device_reason
        self.memory = running.progress.memory or self.memory
        if running.ended and not self._files:
            self._end(running)

    def _take_result(self, case: str, file: Path) -> None:
        assert self.folder is not None
        assert self.queue is not None
        scan = self.queue.of_case(case)
        if scan is None or scan.state == CANCELED:
            return
        progress = self.progress or JobProgress()
        told = progress.doubts.get(case, ()), progress.uncertainty.get(case), self.drawn
        node = import_result(self.folder, self.queue, case, file, self._scene, *told)
        if node is not None:
            self.results.append(node.GetID())

    def _end(self, running: RunningJob) -> None:
        folder = running.job
        if running.failure is not None:
            self._fail(running.failure)
        elif folder.record.kind == SEGMENT:
            self._end_segmentation(folder)
        elif folder.record.state == FINISHED:
            log = folder.read_log()
            name = keep_model(folder, self._library)
            self._close(log)
            self.note = _('The model "{name}" is ready. Press Segment.').format(name=name)
            self._trained(name)
        elif self._keep and can_be_finished(folder):
            self.resume(folder, finish=True)
        else:
            told = self._keep
            self._close()
            self.note = (
                _("Stopped before there was anything to keep as a model. Press Continue to resume.")
                if told
                else _("Training paused. Progress is saved; press Continue to resume.")
            )

    def _end_segmentation(self, folder: JobFolder) -> None:
        assert self.queue is not None
        self.queue.close(CANCELED)
        self._remember_failures()
        log = folder.read_log()
        folder.remove()  # the results are in the scene; what failed is tried anew
        self._close(log)
        self.note = self.queue.sentence
        if self.results:
            self.note += " " + _("Press Next to review them.")

    def _fail(self, failure: Failure) -> None:
        folder = self.folder
        assert folder is not None
        if self.queue is not None and folder.record.kind == SEGMENT:
            self.queue.close("failed", failure.sentence)
            self._remember_failures()
        self.failure = failure
        log = "\n".join([folder.read_log(), failure.sentence])
        if folder.record.words and folder.record.kind == TRAIN and (not failure.lasting or can_be_finished(folder)):
            with suppress(StorageError):  # where the disk is full, the job is found by its age
                folder.update(state=FAILED)
        else:
            folder.remove()
        self._close(log)

    def _close(self, log: str | None = None) -> None:
        self._log = log if log is not None else self.log
        self.folder, self._running, self._writing, self._files = None, None, None, []
        self.stopping, self.finishing = False, False
        self.preview.remove(self._scene)

    def _remember_failures(self) -> None:
        for scan in self.queue.with_state("failed") if self.queue is not None else ():
            self.scan_failures[scan.volume_id] = scan.note
