"""The check of the labels before a training: in a process of its own, whenever they have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError

from ..engine.command import EngineCommand
from ..engine.process import EngineProcess
from ..scene.choices import PanelChoices
from ..scene.scan_table import Scan
from ..scene.scene_cases import label_stamp
from .case_folder import CaseFolder
from .case_writing import write_labeled
from .folder import CHECK, JobFolder, JobRecord
from .label_findings import Finding, findings_of
from .running import RunningJob

# Scans of more voxels are checked only when asked to: Slicer stands still while it writes such a label.
SMALL_SCAN = 20_000_000


class LabelCheck:
    """The check under way, or what the last one found.

    Attributes:
        findings: what is odd about the labels.
        device_reason: the device that a training would use, and why; "" while unknown.
        memory: bytes that a training would take, and bytes that are free; None while unknown.
        problem: why a training would not begin, beside what is wrong with labels; "" for nothing.
        folder: of the check under way; None without one.
    """

    def __init__(self, scene: Any, jobs: Path, start: Callable[[EngineCommand], EngineProcess]) -> None:
        self.findings: list[Finding] = []
        self.device_reason, self.problem = "", ""
        self.memory: tuple[int, int] | None = None
        self._scene, self._jobs, self._start = scene, jobs, start
        self.folder: JobFolder | None = None
        self._writing: Iterator[int] | None = None
        self._running: RunningJob | None = None
        self._checked: object = None
        self._seen: object = None

    @property
    def running(self) -> bool:
        """Whether a check is under way."""
        return self.folder is not None

    def holds(self, scans: Sequence[Scan], choices: PanelChoices) -> bool:
        """Whether the last check was of the labels of `scans` as they are now, and is over."""
        return self._state(scans, choices) == self._checked and not self.running

    def look(self, scans: Sequence[Scan], choices: PanelChoices) -> None:
        """Move on by one small piece; begin when nobody is at work on the labels of `scans` and they are not checked.

        Scans of many voxels are left to `begin`.
        """
        state = self._state(scans, choices)
        settled, self._seen = state == self._seen, state
        if self.running:
            self._tick()
        elif scans and settled and state != self._checked and all(map(self._small, scans)):
            with suppress(GLMAEError):  # nobody has asked for it
                self.begin(scans, choices)

    def begin(self, scans: Sequence[Scan], choices: PanelChoices) -> None:
        """Begin with the labels of `scans`, those to train on; a check under way is given up.

        Raises:
            StorageError: there is no room.
        """
        self.leave()
        self._checked = self._state(scans, choices)
        self.findings, self.device_reason, self.memory, self.problem = [], "", None, ""
        self.folder = JobFolder.create(self._jobs, JobRecord(CHECK, "checking labels"))
        self._writing = self._write(self.folder, scans, choices.region, choices.device)

    def leave(self) -> None:
        """Give it up; nothing of it stays on the disk."""
        if self.running:
            self._checked = None
        if self._running is not None:
            self._running.kill()
        self._close()

    def _tick(self) -> None:
        try:
            if self._writing is not None:
                if next(self._writing, None) is None:
                    self._writing = None
            elif self._running is not None:
                self._follow(self._running)
        except (GLMAEError, OSError):  # a scan cannot be written: training says so
            self._close()

    def _write(self, folder: JobFolder, scans: Sequence[Scan], region: Any | None, device: str) -> Iterator[int]:
        cases = CaseFolder(folder.cases)
        for number in write_labeled(cases, scans, self._scene, region):
            folder.alive.touch()
            yield number
        words = ("check", "--images", str(cases.images), "--labels", str(cases.labels), "--device", device)
        folder.update(words=words)
        self._running = RunningJob(folder, self._start)

    def _follow(self, running: RunningJob) -> None:
        for event in running.poll():
            if event["event"] in ("warning", "info") and event.get("check"):
                self.findings += findings_of(event, CaseFolder.read(running.job.cases).cases)
        self.device_reason, self.memory = running.progress.device_reason, running.progress.memory
        if running.ended:
            self.problem = "" if running.failure is None else running.failure.sentence
            self._close()

    def _close(self) -> None:
        if self.folder is not None:
            self.folder.remove()
        self.folder, self._writing, self._running = None, None, None

    def _state(self, scans: Sequence[Scan], choices: PanelChoices) -> object:
        """What tells these labels from others, see `label_stamp`."""
        nodes = [(scan.volume_id, self._scene.GetNodeByID(scan.segmentation_id)) for scan in scans]
        drawn = tuple((volume, label_stamp(node)) for volume, node in nodes if node is not None)
        return drawn, choices.device, choices.region_stamp

    def _small(self, scan: Scan) -> bool:
        return bool(self._scene.GetNodeByID(scan.volume_id).GetImageData().GetNumberOfPoints() <= SMALL_SCAN)
