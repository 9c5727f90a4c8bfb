"""What the panel shows and allows at one moment: all that it is decided from, and the decisions; no Qt, no scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ..engine.failures import Failure
from ..engine.progress import JobProgress
from ..jobs.folder import SEGMENT, TRAIN
from ..jobs.label_findings import Finding
from ..jobs.preview import STAGE
from ..jobs.queue import CANCELED, FAILED, WAITING, QueuedScan
from ..jobs.suggest_state import SuggestState
from ..models.scores import Score
from ..scene.choices import NORMAL
from ..scene.class_overview import ClassRow
from ..scene.scan_choice import review_order, scans_to_propose, scans_to_segment, training_scans
from ..scene.scan_table import Scan
from ..setup.set_up import EngineStatus
from . import actions as action
from . import section_sentences as sentences


@dataclass(frozen=True)
class PanelState:
    """A new value that is shown is one more field here, read by the view.

    Attributes:
        scans: of the scene.
        classes: of the scans to train on.
        findings: of the label check.
        checked: whether the labels were checked as they are now.
        checking_labels: whether they are being checked.
        problem: why a training would not begin, as the check found; "" for nothing.
        engine: the Python that the engine runs in, and what is done to it.
        checking: whether the set-up is being checked.
        set_up: the report of the last check; "" for none.
        models: names of the models on this computer.
        model: the chosen one of them; "" for none.
        scores: of the chosen model.
        advice: whether more labels would help the chosen model.
        budget: how long to train.
        steps: number of steps instead of the budget; 0 for the budget.
        device_reason: what the engine says about the device; "" while it was not asked.
        memory: bytes that training takes, and bytes that are free; None while the engine was not asked.
        start: name of the model that training goes on from; "" for none.
        backbone: the pre-trained one that it starts from otherwise; "" for none.
        shipped: name of the pre-trained backbone that is installed; "" for none.
        region: name of the region of interest; "" for none.
        selected: ID of the volume of the scan that is selected in the table; "" for none.
        drawing: ID of the segmentation that is open for drawing; "" for none.
        running: TRAIN or SEGMENT while a job is under way, else "".
        preparing: (done, total) scans while a job's scans are being written, else None.
        stopping: whether the job was asked to stop.
        finishing: whether the model of a stopped training is being made.
        preview: what there is to say about the preview of the training; "" for nothing.
        preview_asked: whether a preview is being made.
        preview_of: ID of the segmentation that shows it, and `preview_scan` of its volume; "" for none.
        progress: of the job under way or the last one.
        queue: the scans of the last or running segmentation.
        interrupted: titles of jobs that can be gone on with.
        learned: whether the first of them has learned something that a model can be made of.
        failure: what went wrong, until something else is done; None for nothing.
        suggest: what Suggest is at.
        undoable: number of results that Undo would remove.
        note: the last thing that was done, in a sentence.
    """

    scans: tuple[Scan, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    findings: tuple[Finding, ...] = ()
    checked: bool = False
    checking_labels: bool = False
    problem: str = ""
    engine: EngineStatus = field(default_factory=EngineStatus)
    checking: bool = False
    set_up: str = ""
    models: tuple[str, ...] = ()
    model: str = ""
    scores: tuple[Score, ...] = ()
    advice: str = ""
    budget: str = NORMAL
    steps: int = 0
    device_reason: str = ""
    memory: tuple[int, int] | None = None
    start: str = ""
    backbone: str = ""
    shipped: str = ""
    region: str = ""
    selected: str = ""
    drawing: str = ""
    running: str = ""
    preparing: tuple[int, int] | None = None
    stopping: bool = False
    finishing: bool = False
    preview: str = ""
    preview_asked: bool = False
    preview_of: str = ""
    preview_scan: str = ""
    progress: JobProgress | None = None
    queue: tuple[QueuedScan, ...] = ()
    interrupted: tuple[str, ...] = ()
    learned: bool = False
    failure: Failure | None = None
    suggest: SuggestState = field(default_factory=SuggestState)
    undoable: int = 0
    note: str = ""

    @property
    def can_compute(self) -> bool:
        """Whether the engine can run, and nobody is changing it."""
        return not self.engine.lacking and not self.engine.working

    @property
    def selected_scan(self) -> Scan | None:
        """The row of `selected`."""
        return next((scan for scan in self.scans if scan.volume_id == self.selected), None)

    @property
    def loss(self) -> tuple[tuple[float, float], ...]:
        """The training curve."""
        return tuple(self.progress.loss) if self.progress is not None else ()

    @property
    def fraction(self) -> float | None:
        """Share of the job's stage that is over, 0-1; None when unknown."""
        if self.preparing is not None:
            return self.preparing[0] / max(1, self.preparing[1])
        return self.progress.fraction if self.running and self.progress is not None and self.progress.total else None

    @property
    def ending(self) -> str:
        """How the last job ended, in a sentence."""
        return self.note if self.failure is None else self.failure.sentence

    # What is said. What each section has to say is what is missing before it can be used, or what it will do.

    step = property(sentences.step)
    next_step = property(sentences.next_step)
    scans_sentence = property(sentences.scans_sentence)
    classes_sentence = property(sentences.classes_sentence)
    suggest_sentence = property(sentences.suggest_sentence)
    train_sentence = property(sentences.train_sentence)
    train_details = property(sentences.train_details)
    segment_sentence = property(sentences.segment_sentence)
    review = property(sentences.review_sentence)
    part = property(sentences.part_question)
    progress_sentence = property(sentences.job_sentence)

    @cached_property
    def enabled(self) -> frozenset[str]:
        """The actions that make sense now."""
        idle, selected, free = not self.running, self.selected_scan, not self.engine.working
        training = training_scans(self.scans)
        labeled = any(scan.segmentation_id or scan.result_id for scan in self.scans)
        result = selected is not None and bool(selected.result_id)
        rules = {
            action.LABEL: selected is not None,
            action.SUGGEST: self.suggest.on
            or (self.can_compute and bool(training) and bool(scans_to_propose(self.scans))),
            action.CHECK_LABELS: idle and self.can_compute and not self.checking_labels and bool(training),
            action.STATE_PART: idle and bool(self.part),
            action.INSTALL: idle and bool(self.engine.button) and free,
            action.CANCEL_INSTALL: not free,
            action.REMOVE_ENGINE: idle and bool(self.engine.installed) and free,
            action.CHOOSE_ENGINE: idle and free,
            action.CHECK_SET_UP: idle and not self.checking and free,
            action.COPY_REPORT: bool(self.set_up),
            action.START_TRAINING: idle and self.can_compute and bool(training),
            action.PREVIEW: self.running == TRAIN and self._can_preview,
            action.PAUSE: self.running == TRAIN and not self.stopping,
            action.STOP: self.running == TRAIN and not self.stopping and not self.finishing,
            action.CONTINUE: idle and bool(self.interrupted) and self.can_compute,
            action.KEEP: idle and bool(self.interrupted) and self.learned and self.can_compute,
            action.DISCARD: idle and bool(self.interrupted),
            action.START_SEGMENTING: idle
            and self.can_compute
            and bool(self.model)
            and bool(scans_to_segment(self.scans, self.model)),
            action.CANCEL: self.running == SEGMENT and not self.stopping,
            action.CANCEL_SCAN: self.running == SEGMENT
            and any(scan.volume_id == self.selected and scan.state == WAITING for scan in self.queue),
            action.RETRY: idle
            and self.can_compute
            and bool(self.model)
            and any(scan.state in (FAILED, CANCELED) for scan in self.queue),
            action.UNDO: idle and self.undoable > 0,
            action.ACCEPT: result,
            action.CORRECT: result,
            action.END_DRAWING: bool(self.drawing),
            action.NEXT: bool(review_order(self.scans)),
            action.PREVIOUS: bool(review_order(self.scans)),
            action.SURFACES: selected is not None and bool(selected.shown_id),
            action.VOLUMES: labeled,
            action.IMPORT: idle,
            action.EXPORT: bool(self.model),
            action.RENAME: idle and bool(self.model),
            action.DELETE: idle and bool(self.model),
            action.COPY_LOG: self.failure is not None or self.progress is not None,
        }
        return frozenset(name for name, allowed in rules.items() if allowed)

    @property
    def _can_preview(self) -> bool:
        """Whether steps are being taken, and no preview is under way."""
        under_way = self.preparing is None and not (self.stopping or self.finishing or self.preview_asked)
        return under_way and bool(self.scans) and self.progress is not None and self.progress.stage == STAGE
