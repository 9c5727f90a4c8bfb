"""Suggest: one engine process stays alive and proposes a segmentation of every scan that is not reviewed yet.

With each label that is drawn, accepted or corrected the process learns anew, and proposals are renewed. Requests and
answers are those of `glmae live` (docs/events.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmae.errors import GLMAEError, RequestError

from ..engine.command import EngineCommand
from ..engine.failures import Failure, failure_of, failure_of_error
from ..engine.process import EngineProcess
from ..messages import say
from ..scene.choices import PanelChoices
from ..scene.local_frame import volume_matrix
from ..scene.proposals import PROPOSAL_ATTRIBUTE, take_proposals_away
from ..scene.scan_choice import scans_to_propose, training_scans
from ..scene.scan_table import Scan
from ..scene.scene_cases import SceneCase, label_stamp
from ..scene.segmentation_import import import_segmentation
from .case_folder import CaseFolder
from .case_writing import boxes_of
from .folder import SUGGEST, JobFolder, JobRecord
from .running import RunningJob
from .segmentation import describe_result
from .suggest_state import AHEAD, FIT, SEGMENT, WRITE, SuggestState


@dataclass
class _Written:
    """A scan in the folder of cases: its name there, what its image and label were then, and whether it has maps."""

    case: str
    image: object
    label: object = None
    read: bool = False


class Suggestions:
    """The process, the folder it works on, and its proposals in the scene.

    Attributes:
        state: what is shown.
        failure: why the process ended; None while it lives, or was ended.
        failures: why there is no proposal of a scan, by the ID of its volume.
        log: of the process that failed.
        folder: of the process; None while it is switched off.
    """

    def __init__(self, scene: Any, jobs: Path, start: Callable[[EngineCommand], EngineProcess]) -> None:
        self._scene, self._jobs, self._start = scene, jobs, start
        self.failure: Failure | None = None
        self.log = ""
        self._forget()

    def _forget(self) -> None:
        self.state = SuggestState()
        self.failures: dict[str, str] = {}
        self.folder: JobFolder | None = None
        self._cases = CaseFolder(self._jobs)  # of the folder, while there is one
        self._running: RunningJob | None = None
        self._choices: object = None  # of the user, when it began
        self._written: dict[str, _Written] = {}
        self._seen: dict[str, object] = {}  # labels at the last look, written or not
        self._fitted: dict[str, tuple[str, object]] = {}  # the labels of the last request to learn
        self._round, self._labels = 0, 0  # how often that was done, and the last time with how many labels
        self._proposed: dict[str, int] = {}  # the round of each scan's proposal
        self._asked: tuple[int, str, str] | None = None  # number, kind and volume of the request under way
        self._ahead: tuple[int, str] | None = None
        self._number = 0
        self._came: tuple[str, Mapping[str, Any]] | None = None
        self._problem = ""

    @property
    def on(self) -> bool:
        """Whether the process is alive, or being started."""
        return self.folder is not None

    def begin(self, choices: PanelChoices) -> None:
        """Switch it on; the process starts when the first label is written.

        Raises:
            StorageError: there is no room.
        """
        self.leave()
        self.failure, self.log = None, ""
        self._choices = _key(choices)
        self.folder = JobFolder.create(self._jobs, JobRecord(SUGGEST, "suggesting"))
        self._cases = CaseFolder(self.folder.cases)
        self._show(())

    def toggle(self, choices: PanelChoices) -> None:
        """Switch it on, or off."""
        self.leave() if self.on else self.begin(choices)

    def leave(self) -> None:
        """Switch it off. Proposals stay; nothing else of it does."""
        if self._running is not None:
            self._running.kill()
        if self.folder is not None:
            self.folder.remove()
        self._forget()

    def tick(
        self, scans: Sequence[Scan], choices: PanelChoices, first: str = "", drawn: str = "", watched: bool = True
    ) -> None:
        """Move on by one small piece.

        Args:
            scans: of the scene.
            choices: of the user.
            first: ID of the volume that is shown: its proposal comes first.
            drawn: ID of the segmentation that is open for drawing: its scan is left alone.
            watched: whether the panel is on the screen and nothing is being drawn; else labels are left alone.
        """
        if not self.on:
            return
        try:
            if _key(choices) != self._choices:  # another device or region: everything anew
                self.begin(choices)
            self._step(scans, choices, first, drawn, watched)
        except (GLMAEError, OSError) as error:
            self._end(failure_of_error(error))

    def _step(self, scans: Sequence[Scan], choices: PanelChoices, first: str, drawn: str, watched: bool) -> None:
        assert self.folder is not None
        self.folder.alive.touch()
        drawn = drawn or "nothing"
        labeled = [scan for scan in training_scans(scans) if scan.segmentation_id != drawn]
        wanted = [scan for scan in scans_to_propose(scans) if drawn not in (scan.result_id, scan.segmentation_id)]
        wanted.sort(key=lambda scan: scan.volume_id != first)  # the shown one, then as in the table
        if self._running is not None:
            self._follow(self._running)
            if self._running is None:
                return
        if self._came is not None:
            self._take(*self._came, drawn)
            self._came = None
        elif (writing := self._write_next(labeled, wanted, choices, watched)) is not None:
            self._show(wanted, WRITE, writing)
            return
        if self._running is None and any(one.label is not None for one in self._written.values()):
            self._launch(choices)
        if self._running is not None and self._asked is None:
            self._request(labeled, wanted)
        self._show(wanted)

    def _write_next(
        self, labeled: Sequence[Scan], wanted: Sequence[Scan], choices: PanelChoices, watched: bool
    ) -> Scan | None:
        """Write one scan, or one label, that is new or has changed; the scan, or None when there is none."""
        for scan in (*labeled, *wanted):
            volumes = scan.volumes(self._scene)
            node = self._scene.GetNodeByID(scan.segmentation_id) if scan in labeled else None
            if not volumes:
                continue
            known, label = self._written.get(scan.volume_id), None if node is None else label_stamp(node)
            settled = label == self._seen.get(scan.volume_id) or (known is not None and known.label is None)
            self._seen[scan.volume_id] = label
            if known is not None and known.image == _image(volumes):
                if node is None or label == known.label or not watched or not settled:
                    continue
            elif node is not None and not watched:
                continue
            try:
                self._write(scan, volumes, node, label, choices)
            except RequestError as error:  # outside of the region
                self._refuse(scan, volumes, label, str(error))
            except GLMAEError as error:
                self._refuse(scan, volumes, label, failure_of_error(error).reason)
            return scan
        return None

    def _write(
        self, scan: Scan, volumes: tuple[Any, ...], node: Any | None, label: object, choices: PanelChoices
    ) -> None:
        known = self._written.get(scan.volume_id)
        if known is not None and known.case and known.image == _image(volumes):
            self._cases.label(known.case, volumes[0], node)
            known.label = label
            return
        case = self._cases.add(SceneCase(volumes, node), boxes_of(choices.region, volumes))
        self._written[scan.volume_id] = _Written(case.name, _image(volumes), label)
        self._proposed.pop(scan.volume_id, None)  # of the scan as it was before
        self.failures.pop(scan.volume_id, None)

    def _refuse(self, scan: Scan, volumes: tuple[Any, ...], label: object, reason: str) -> None:
        """A scan that cannot be written is passed over until it changes."""
        self._written[scan.volume_id] = _Written("", _image(volumes), label)
        self.failures[scan.volume_id] = reason

    def _launch(self, choices: PanelChoices) -> None:
        assert self.folder is not None
        words = ("live", "--images", str(self._cases.images), "--labels", str(self._cases.labels))
        options = ("--cache", str(self.folder.folder / "cache"), "--device", choices.device)
        from_scratch = () if choices.pretrained else ("--backbone", "none")
        self.folder.out.mkdir(exist_ok=True)
        self.folder.update(words=(*words, *options, *from_scratch))
        self._running = RunningJob(self.folder, self._start)

    def _request(self, labeled: Sequence[Scan], wanted: Sequence[Scan]) -> None:
        """Ask for what is needed most: to learn, else the next proposal; maps first, which a label may interrupt."""
        with_label = {scan.volume_id: one for scan in labeled if (one := self._written.get(scan.volume_id)) is not None}
        known = {volume: one for volume, one in with_label.items() if one.case and one.label is not None}
        labels = {volume: (one.case, one.label) for volume, one in known.items()}
        if known and wanted and labels != self._fitted:
            self._fitted, self._problem = labels, ""
            self._asked = self._send(FIT, "", cases=[one.case for one in known.values()])
            return
        if not self._round or self._problem:
            return
        for scan in wanted:
            one = self._written.get(scan.volume_id)
            if one is None or not one.case or self._proposed.get(scan.volume_id) == self._round:
                continue
            if one.read:
                out = self._cases.folder.with_name("out") / f"{one.case}.seg.nrrd"
                self._asked, self._ahead = self._send(SEGMENT, scan.volume_id, case=one.case, out=str(out)), None
            elif self._ahead is None or self._ahead[1] != scan.volume_id:
                self._ahead = self._send(AHEAD, scan.volume_id, cases=[one.case])[::2]
            return

    def _send(self, kind: str, volume_id: str, **fields: Any) -> tuple[int, str, str]:
        assert self._running is not None
        self._number += 1
        self._running.progress.done = self._running.progress.total = 0
        self._running.send({"request": kind, "id": self._number, **fields})
        return self._number, kind, volume_id

    def _follow(self, running: RunningJob) -> None:
        for event in running.poll():
            if event["event"] in ("answered", "request_failed"):
                number, ok = event.get("id"), event["event"] == "answered"
                if self._asked is not None and number == self._asked[0]:
                    (_number, kind, volume_id), self._asked = self._asked, None
                    self._answer(kind, volume_id, event, ok)
                elif self._ahead is not None and number == self._ahead[0]:
                    (_number, volume_id), self._ahead = self._ahead, None
                    self._answer(AHEAD, volume_id, event, ok)
        if running.ended:
            self._end(running.failure or failure_of(None, 0, []))

    def _answer(self, kind: str, volume_id: str, event: Mapping[str, Any], ok: bool) -> None:
        device = self._running.progress.device if self._running is not None else ""
        reason = "" if ok else failure_of(event, None, [], device).sentence
        if kind == FIT:
            if ok:
                self._round, self._labels = self._round + 1, len(self._fitted)
            self._problem = reason
            for one in self._written.values() if ok else ():
                one.read = one.read or one.case in event.get("cases", ())
        elif kind == AHEAD:  # if it failed, segmenting says why
            self._written[volume_id].read = True
        else:
            self._proposed[volume_id] = self._round
            if ok:
                self._came = volume_id, event
            else:
                self.failures[volume_id] = reason

    def _take(self, volume_id: str, event: Mapping[str, Any], drawn: str) -> None:
        """Put a proposal into the scene, in the place of the one before."""
        volume = self._scene.GetNodeByID(volume_id)
        if volume is None or not take_proposals_away(volume, drawn):
            return
        path = Path(str(event.get("file")))
        name = say("proposal name", scan=volume.GetName())
        try:
            node = import_segmentation(path, volume, name)
        except GLMAEError:
            self.failures[volume_id] = say("result unreadable", scan=volume.GetName())
            return
        finally:
            path.unlink(missing_ok=True)
        if self._scene.GetFirstNodeByName(name) is None:  # the scene counts on with names that were given before
            node.SetName(name)
        node.SetAttribute(PROPOSAL_ATTRIBUTE, "1")
        describe_result(node, event)
        self.failures.pop(volume_id, None)

    def _end(self, failure: Failure) -> None:
        log = self.folder.read_log() if self.folder is not None else ""
        self.leave()
        self.failure, self.log = failure, log

    def _show(self, wanted: Sequence[Scan], stage: str = "", scan: Scan | None = None) -> None:
        progress = self._running.progress if self._running is not None else None
        names = {one.volume_id: one.name for one in wanted}
        volume_id = ""
        if not stage and self._asked is not None:
            _number, stage, volume_id = self._asked
        elif not stage and self._ahead is not None:
            stage, volume_id = AHEAD, self._ahead[1]
        elif not stage and (self._running is None or not (self._round or self._problem)):
            stage = FIT  # the process starts
        self.state = SuggestState(
            on=self.on,
            stage=stage,
            scan=scan.name if scan is not None else names.get(volume_id, ""),
            fraction=progress.fraction if progress is not None and progress.total else None,
            labels=self._labels,
            proposed=0 if stage == FIT else sum(self._proposed.get(one.volume_id) == self._round for one in wanted),
            wanted=len(wanted),
            problem=self._problem,
        )


def _key(choices: PanelChoices) -> object:
    """What tells one beginning from another."""
    return choices.device, choices.pretrained, choices.region_stamp


def _image(volumes: tuple[Any, ...]) -> object:
    """What tells the values and the place of one scan from another's."""
    return [(one.GetID(), one.GetImageData().GetMTime(), volume_matrix(one).tobytes()) for one in volumes]
