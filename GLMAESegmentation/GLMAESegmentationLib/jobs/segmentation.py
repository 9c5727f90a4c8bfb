"""Segmenting: writes the scans, says what the engine is to do, brings the results into the scene."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError, RequestError

from ..engine.failures import Failure, failure_of, failure_of_error, sentence
from ..engine.progress import certainty_of
from ..messages import say
from ..models.library import ModelLibrary
from ..scene.proposals import take_proposals_away
from ..scene.scan_table import DOUBT_ATTRIBUTE, MODEL_ATTRIBUTE, UNCERTAINTY_ATTRIBUTE, Scan
from ..scene.scene_cases import SceneCase, scan_volumes
from ..scene.segmentation_import import import_segmentation
from .case_folder import CaseFolder, ExportedCase
from .case_writing import boxes_of
from .folder import SEGMENT, JobFolder, JobRecord
from .queue import CANCELED, DONE, FAILED, WAITING, QueuedScan, SegmentationQueue


def new_segmentation(jobs: Path, model: str, model_folder: Path, device: str, scans: Sequence[Scan]) -> JobFolder:
    """The folder of a segmentation of `scans` with a model."""
    title = say("segment title", model=model)
    details = {
        "model": model,
        "options": ["--model", str(model_folder), "--device", device],
        "imported": [],
        "scans": len(scans),
    }
    return JobFolder.create(jobs, JobRecord(SEGMENT, title, details=details))


class Segmentation:
    """A segmentation as a job: its queue of scans, and their results in the scene.

    Attributes:
        queue: of the one under way, or the last one.
        results: IDs of the segmentations that the last one made.
        failures: why a scan could not be segmented, by the ID of its volume.
        drawn: ID of the segmentation that is open for drawing, which nothing replaces.
    """

    def __init__(self, scene: Any, library: ModelLibrary) -> None:
        self._scene, self._library = scene, library
        self.queue = SegmentationQueue()
        self.results: list[str] = []
        self.failures: dict[str, str] = {}
        self.drawn = ""

    def write(self, folder: JobFolder, scans: Sequence[Scan], region: Any | None) -> Iterator[int]:
        """Write one scan after the other, then the engine's words; yields the number written after each.

        A scan that cannot be written fails by itself.

        Raises:
            RequestError: none of them can be written.
        """
        self.queue = SegmentationQueue(QueuedScan(scan.volume_id, scan.name, channels=scan.channels) for scan in scans)
        self.results = []
        for scan in scans:
            self.failures.pop(scan.volume_id, None)
        return self._write(folder, region)

    def _write(self, folder: JobFolder, region: Any | None) -> Iterator[int]:
        cases = CaseFolder(folder.cases)
        for number, scan in enumerate(self.queue.scans, start=1):
            volumes = tuple(self._scene.GetNodeByID(identifier) for identifier in scan.channels or (scan.volume_id,))
            try:
                if None in volumes:
                    raise RequestError(say("gone", scan=scan.name))
                case = cases.add(SceneCase(volumes), boxes_of(region, volumes))
                self.queue.update(scan.volume_id, case=case.name)
            except GLMAEError as error:
                self.queue.update(scan.volume_id, state=FAILED, note=failure_of_error(error).reason)
            yield number
        if not self.queue.with_state(WAITING):
            raise RequestError(say("segment none"))
        words = ["segment", "--images", str(cases.images), "--out", str(folder.out), *folder.record.details["options"]]
        folder.update(words=tuple(words))

    def resume(self, folder: JobFolder) -> None:
        """Go on with an interrupted one in the scene as it is now.

        Raises:
            ModelError: its model cannot be used any more.
            RequestError: its files are damaged.
        """
        self._library.card(str(folder.record.details["model"]))
        self.queue, self.results = queue_of(folder, self._scene), []

    def take(self, event: Mapping[str, Any], folder: JobFolder) -> None:
        """Take in what the engine says of a scan; a result is put into the scene."""
        if event["event"] != "case":
            return
        case, state = str(event.get("case")), str(event.get("state"))
        self.queue.case_event(case, state, failure_of(event, None, []).reason if state == "failed" else "")
        scan = self.queue.of_case(case)
        if state in ("done", "skipped") and event.get("file") and scan and scan.state not in (CANCELED, DONE):
            self._import(scan, event, folder)

    def _import(self, scan: QueuedScan, event: Mapping[str, Any], folder: JobFolder) -> None:
        """Put a finished result into the scene as a new segmentation, in the place of a proposal. Nothing else that was
        there before is touched.
        """
        volume = self._scene.GetNodeByID(scan.volume_id)
        if volume is None:
            self.queue.update(scan.volume_id, state=FAILED, note=say("gone", scan=scan.name))
            return
        try:
            node = import_segmentation(Path(str(event["file"])), volume)
        except GLMAEError:
            self.queue.update(scan.volume_id, state=FAILED, note=say("result unreadable", scan=scan.name))
            return
        details = folder.record.details
        node.SetAttribute(MODEL_ATTRIBUTE, str(details["model"]))
        take_proposals_away(volume, self.drawn)
        self.queue.update(scan.volume_id, state=DONE, note=describe_result(node, event), result_id=node.GetID())
        self.results.append(node.GetID())
        folder.update(details={**details, "imported": [*details.get("imported", ()), scan.case]})

    def end(self, folder: JobFolder, told_to_keep: bool) -> str:
        """How it ended, in a sentence. Its results are in the scene; what failed is tried anew."""
        self.queue.close(CANCELED)
        self._remember()
        folder.remove()
        return " ".join(filter(None, (self.queue.sentence, say("segment review") if self.results else "")))

    def fail(self, folder: JobFolder, failure: Failure) -> None:
        """What is not done has failed, all for this reason."""
        self.queue.close(FAILED, failure.sentence)
        self._remember()
        folder.remove()

    def cancel(self) -> None:
        """It ends before it has begun."""
        self.queue.close(CANCELED)

    def forget(self) -> None:
        """Its results were removed."""
        self.queue, self.results = SegmentationQueue(), []

    def scene_closed(self, under_way: bool) -> bool:
        """Forget what was about nodes of the scene; whether to stop: results have nowhere to go to any more."""
        self.results, self.failures = [], {}
        if not under_way:
            self.forget()
        return under_way

    def _remember(self) -> None:
        self.failures.update((scan.volume_id, scan.note) for scan in self.queue.with_state(FAILED))


def queue_of(job: JobFolder, scene: Any) -> SegmentationQueue:
    """The queue of an interrupted job, for the scene as it is now; results that were imported count as done."""
    imported = set(job.record.details.get("imported", ()))
    scans = []
    for case in CaseFolder.read(job.cases).cases:
        volume = volume_of_case(case, scene)
        done = case.name in imported
        identifier = volume.GetID() if volume is not None else case.volumes[0]
        state, note = (DONE if done else WAITING), ""
        if volume is None and not done:
            state, note = CANCELED, say("gone", scan=case.title)
        scans.append(QueuedScan(identifier, case.title, state, case.name, note))
    return SegmentationQueue(scans)


def volume_of_case(case: ExportedCase, scene: Any) -> Any | None:
    """The volume that a case was written from: by its ID, else, in a scene that was loaded again, by its name."""
    name = case.title.split(" + ")[0] if len(case.volumes) > 1 else case.title
    node = scene.GetNodeByID(case.volumes[0])
    if node is not None and node.GetName() == name:
        return node
    named = [volume for volume in scan_volumes(scene) if volume.GetName() == name]
    return named[0] if len(named) == 1 else None


def cancel_scan(job: JobFolder, queue: SegmentationQueue, volume_id: str) -> None:
    """Take one waiting scan out of the queue. Without its image the engine passes over it."""
    for scan in [scan for scan in queue.with_state(WAITING) if scan.volume_id == volume_id]:
        queue.update(volume_id, state=CANCELED)
        if scan.case:
            image = CaseFolder.read(job.cases).image(scan.case)
            shutil.rmtree(image) if image.is_dir() else image.unlink(missing_ok=True)


def describe_result(node: Any, event: Mapping[str, Any]) -> str:
    """Write what the engine says about a result into its node, and hide it: scans often lie at the same place, and only
    the one that is selected is shown. What is doubtful about it, a line each.
    """
    uncertainty, doubts = certainty_of(event)
    doubt = "\n".join(map(sentence, doubts))
    if doubt:
        node.SetAttribute(DOUBT_ATTRIBUTE, doubt)
    if uncertainty is not None:
        node.SetAttribute(UNCERTAINTY_ATTRIBUTE, f"{uncertainty:.4f}")
    node.SetDisplayVisibility(False)
    return doubt
