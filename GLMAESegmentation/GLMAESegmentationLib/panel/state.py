"""What the panel shows and allows at one moment: all that it is decided from, and the decisions; no Qt, no scene."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

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


def _shown(look: Callable[[Any], Any], default: Any = "") -> Any:
    """A value that is shown: where it is taken from in a `Panel`, and what it is in a panel without anything."""
    return field(default=default, metadata={"look": look})


@dataclass(frozen=True)
class PanelState:
    """A new value that is shown is one more line here, read by the view; texts are "" where there is nothing."""

    scans: tuple[Scan, ...] = _shown(lambda of: of.scans, ())
    selected: str = _shown(lambda of: of.selected)
    drawing: str = _shown(lambda of: of.drawing[0])
    classes: tuple[ClassRow, ...] = _shown(lambda of: of.classes, ())
    # Of the labels: what is odd about them, and why a training would not begin.
    findings: tuple[Finding, ...] = _shown(
        lambda of: tuple(of.labels.findings if of.checked else of.job.training.findings), ()
    )
    checked: bool = _shown(lambda of: of.checked, False)
    checking_labels: bool = _shown(lambda of: of.labels.running, False)
    problem: str = _shown(lambda of: of.labels.problem if of.checked else "")
    # The Python that the engine runs in, what is done to it, and the report of the last check.
    engine: EngineStatus = _shown(lambda of: of.set_up.status, EngineStatus())
    checking: bool = _shown(lambda of: of.set_up.checking, False)
    set_up: str = _shown(lambda of: of.set_up.report)
    # Names of the models on this computer, and what the chosen one says of itself.
    models: tuple[str, ...] = _shown(lambda of: of.library.names, ())
    model: str = _shown(lambda of: of.model.name)
    scores: tuple[Score, ...] = _shown(lambda of: tuple(of.model.scores), ())
    advice: str = _shown(lambda of: " ".join(filter(None, (of.model.origin, of.model.advice))))
    # Of the next training: its length (in steps, where that is not 0), what the engine says about the device, bytes
    # that it takes and bytes that are free (None while the engine was not asked), and what it starts from.
    budget: str = _shown(lambda of: of.choices.budget, NORMAL)
    steps: int = _shown(lambda of: of.choices.steps, 0)
    device_reason: str = _shown(lambda of: (of.checked and of.labels.device_reason) or of.job.device_reason)
    memory: tuple[int, int] | None = _shown(
        lambda of: (of.labels.memory if of.checked else None) or of.job.memory, None
    )
    start: str = _shown(
        lambda of: of.model.start(
            [row.name for row in of.classes], {len(scan.channels) for scan in training_scans(of.scans)}
        )
    )
    backbone: str = _shown(lambda of: of.set_up.backbone if of.choices.pretrained else "")
    shipped: str = _shown(lambda of: of.set_up.backbone)
    region: str = _shown(lambda of: of.choices.region_name)
    # The job under way: TRAIN or SEGMENT, and how far it is; (done, total) scans while they are written.
    running: str = _shown(lambda of: of.job.kind)
    preparing: tuple[int, int] | None = _shown(lambda of: of.job.preparing, None)
    stopping: bool = _shown(lambda of: of.job.stopping, False)
    finishing: bool = _shown(lambda of: of.job.finishing, False)
    progress: JobProgress | None = _shown(lambda of: deepcopy(of.job.progress), None)
    queue: tuple[QueuedScan, ...] = _shown(lambda of: of.job.segmentation.queue.scans, ())
    undoable: int = _shown(lambda of: len(of.review.left(of.job.segmentation.results)), 0)
    # Of the preview of a training: what there is to say, and IDs of its segmentation and that one's volume.
    preview: str = _shown(lambda of: of.job.training.preview.sentence)
    preview_asked: bool = _shown(lambda of: of.job.training.preview.asked, False)
    preview_of: str = _shown(lambda of: of.job.training.preview.node_id)
    preview_scan: str = _shown(lambda of: of.job.training.preview.volume_id)
    # Titles of the jobs that can be gone on with, and whether a model can be made of what the first has learned.
    interrupted: tuple[str, ...] = _shown(lambda of: tuple(of.interrupted.titles), ())
    learned: bool = _shown(lambda of: of.interrupted.learned, False)
    suggest: SuggestState = _shown(lambda of: of.suggestions.state, SuggestState())
    # What went wrong, or what was done last, until something else is done.
    failure: Failure | None = _shown(
        lambda of: of.failure or of.set_up.failure or of.job.failure or of.suggestions.failure, None
    )
    note: str = _shown(lambda of: of.note or of.set_up.note or of.job.note)

    @classmethod
    def of(cls, panel: Any) -> PanelState:
        """What is to be shown now."""
        return cls(**{each.name: each.metadata["look"](panel) for each in fields(cls)})

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
