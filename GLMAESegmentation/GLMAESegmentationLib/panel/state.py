"""What the panel shows and allows: decided from the situation alone, without Qt and without a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..engine.failures import Failure
from ..jobs.folder import SEGMENT, TRAIN
from ..jobs.label_findings import Finding
from ..jobs.preview import STAGES
from ..jobs.queue import WAITING, QueuedScan, SegmentationQueue
from ..models.scores import Score
from ..scene.class_overview import ClassRow
from ..scene.scan_choice import FEWEST_SCANS, review_order, scans_to_segment, training_scans
from ..scene.scan_table import Scan
from ..setup.set_up import EngineStatus
from .section_sentences import (
    classes_sentence,
    job_sentence,
    job_stage,
    next_step,
    part_question,
    review_sentence,
    scans_sentence,
    segment_sentence,
    train_details,
    train_sentence,
)
from .situation import Situation

# What a person can do; `PanelState.enabled` says what of it makes sense now.
LABEL, CHECK_LABELS, STATE_PART = ("label", "check labels", "state part")
END_DRAWING, NEXT, PREVIOUS, SURFACES, VOLUMES = ("end drawing", "next", "previous", "surfaces", "volumes")
INSTALL, CANCEL_INSTALL, REMOVE_ENGINE, CHOOSE_ENGINE, CHECK_SET_UP, COPY_REPORT = (
    "install",
    "cancel install",
    "remove engine",
    "choose engine",
    "check set-up",
    "copy report",
)
START_TRAINING, PREVIEW, PAUSE, STOP, CONTINUE, KEEP, DISCARD = (
    "train",
    "preview",
    "pause",
    "stop",
    "continue",
    "keep",
    "discard",
)
START_SEGMENTING, CANCEL, CANCEL_SCAN, RETRY, UNDO, ACCEPT, CORRECT, IMPORT, EXPORT, RENAME, DELETE, COPY_LOG = (
    "segment",
    "cancel",
    "cancel scan",
    "retry",
    "undo",
    "accept",
    "correct",
    "import model",
    "export model",
    "rename model",
    "delete model",
    "copy log",
)


@dataclass(frozen=True)
class PanelState:
    """What is shown.

    Attributes:
        enabled: the actions that make sense now.
        next_step: the one sentence at the top.
        failure: what went wrong, until the next job; None for nothing.
        ending: how the last job ended, in a sentence.
        scans_sentence, classes_sentence, train_sentence, segment_sentence: what each section has to say: what is
            missing before it can be used, or what it will do; `train_details` what else there is to know.
        scans, classes, findings, models, model, queue: the rows of the tables.
        selected: ID of the volume of the selected scan; "" for none.
        drawing: ID of the segmentation that is open for drawing; "" for none.
        review: what there is to say about the selected result, a line each.
        scores: of the chosen model, and `advice` whether more labels would help.
        running: TRAIN or SEGMENT while a job is under way, else "".
        stage: what the job is at; "" when there is none.
        progress_sentence: how far the job is and how long it will take.
        fraction: share of the job's stage that is over, 0-1; None when unknown.
        loss, held_out: the training curves.
        warnings: of the job.
        preview: what there is to say about the preview of the training; "" for nothing.
        preview_of: ID of the segmentation that shows it, and `preview_scan` of its volume; "" for none.
        checking_labels: whether the labels are being checked.
        part: what STATE_PART would say of the selected scan; "" where the question does not arise.
        shipped: name of the pre-trained backbone that is installed; "" for none.
        fixed_steps: whether the length of a training is a number of steps instead of the budget.
        interrupted: titles of jobs that can be gone on with.
        engine: the Python that the engine runs in, and what is done to it.
        checking: whether the set-up is being checked.
        set_up: the report of the last check; "" for none.
    """

    enabled: frozenset[str] = frozenset()
    next_step: str = ""
    failure: Failure | None = None
    ending: str = ""
    scans_sentence: str = ""
    classes_sentence: str = ""
    train_sentence: str = ""
    train_details: str = ""
    segment_sentence: str = ""
    scans: tuple[Scan, ...] = ()
    selected: str = ""
    drawing: str = ""
    review: str = ""
    classes: tuple[ClassRow, ...] = ()
    findings: tuple[Finding, ...] = ()
    models: tuple[str, ...] = ()
    model: str = ""
    queue: tuple[QueuedScan, ...] = ()
    scores: tuple[Score, ...] = ()
    advice: str = ""
    running: str = ""
    stage: str = ""
    progress_sentence: str = ""
    fraction: float | None = None
    loss: tuple[tuple[float, float], ...] = ()
    held_out: tuple[tuple[float, float], ...] = ()
    warnings: tuple[str, ...] = ()
    preview: str = ""
    preview_of: str = ""
    preview_scan: str = ""
    checking_labels: bool = False
    part: str = ""
    shipped: str = ""
    fixed_steps: bool = False
    interrupted: tuple[str, ...] = ()
    engine: EngineStatus = field(default_factory=EngineStatus)
    checking: bool = False
    set_up: str = ""


def panel_state(now: Situation) -> PanelState:
    """Decide everything."""
    progress = now.progress
    known = bool(now.model) and now.model in now.models
    return PanelState(
        enabled=frozenset(_enabled(now)),
        next_step=next_step(now),
        failure=now.failure,
        ending=now.note if now.failure is None else now.failure.sentence,
        scans_sentence=scans_sentence(now),
        classes_sentence=classes_sentence(now),
        train_sentence=train_sentence(now),
        train_details=train_details(now),
        segment_sentence=segment_sentence(now),
        scans=tuple(now.scans),
        selected=now.selected,
        drawing=now.drawing,
        review=review_sentence(now),
        classes=tuple(now.classes),
        findings=tuple(now.findings),
        models=tuple(now.models),
        model=now.model if known else "",
        queue=now.queue.scans if now.queue is not None else (),
        scores=tuple(now.scores) if known else (),
        advice=now.advice if known else "",
        running=now.job,
        stage=job_stage(now),
        progress_sentence=job_sentence(now),
        fraction=_fraction(now),
        loss=tuple(progress.loss) if progress is not None else (),
        held_out=tuple(progress.held_out) if progress is not None else (),
        warnings=tuple(progress.warnings) if progress is not None else (),
        preview=now.preview,
        preview_of=now.preview_of,
        preview_scan=now.preview_scan,
        checking_labels=now.checking_labels,
        part=part_question(now),
        shipped=now.shipped,
        fixed_steps=bool(now.steps),
        interrupted=tuple(now.interrupted),
        engine=now.engine,
        checking=now.checking,
        set_up=now.set_up,
    )


def _enabled(now: Situation) -> list[str]:
    idle, selected = not now.job, next((scan for scan in now.scans if scan.volume_id == now.selected), None)
    known = bool(now.model) and now.model in now.models
    rules = {
        LABEL: selected is not None,
        CHECK_LABELS: idle and now.can_compute and not now.checking_labels and bool(training_scans(now.scans)),
        STATE_PART: idle and bool(part_question(now)),
        INSTALL: idle and bool(now.engine.button) and not now.engine.working,
        CANCEL_INSTALL: bool(now.engine.working),
        REMOVE_ENGINE: idle and bool(now.engine.installed) and not now.engine.working,
        CHOOSE_ENGINE: idle and not now.engine.working,
        CHECK_SET_UP: idle and not now.checking and not now.engine.working,
        COPY_REPORT: bool(now.set_up),
        START_TRAINING: idle and now.can_compute and len(training_scans(now.scans)) >= FEWEST_SCANS,
        PREVIEW: now.job == TRAIN and _can_preview(now),
        PAUSE: now.job == TRAIN and not now.stopping,
        STOP: now.job == TRAIN and not now.stopping and not now.finishing,
        CONTINUE: idle and bool(now.interrupted) and now.can_compute,
        KEEP: idle and bool(now.interrupted) and now.learned and now.can_compute,
        DISCARD: idle and bool(now.interrupted),
        START_SEGMENTING: idle and now.can_compute and known and bool(scans_to_segment(now.scans, now.model)),
        CANCEL: now.job == SEGMENT and not now.stopping,
        CANCEL_SCAN: now.job == SEGMENT and _waits(now),
        RETRY: idle and now.can_compute and known and now.queue is not None and bool(_unfinished(now.queue)),
        UNDO: idle and now.undoable > 0,
        ACCEPT: selected is not None and bool(selected.result_id),
        CORRECT: selected is not None and bool(selected.result_id),
        END_DRAWING: bool(now.drawing),
        NEXT: bool(review_order(now.scans)),
        PREVIOUS: bool(review_order(now.scans)),
        SURFACES: selected is not None and bool(selected.shown_id),
        VOLUMES: any(scan.segmentation_id or scan.result_id for scan in now.scans),
        IMPORT: idle,
        EXPORT: known,
        RENAME: idle and known,
        DELETE: idle and known,
        COPY_LOG: now.failure is not None or now.progress is not None,
    }
    return [action for action, allowed in rules.items() if allowed]


def _can_preview(now: Situation) -> bool:
    """Whether steps are being taken, and no preview is under way."""
    under_way = now.preparing is None and not now.stopping and not now.finishing and not now.preview_asked
    return under_way and bool(now.scans) and now.progress is not None and now.progress.stage in STAGES


def _waits(now: Situation) -> bool:
    """Whether the selected scan is in the queue and its turn has not come."""
    chosen = None if now.queue is None else now.queue.of_volume(now.selected)
    return chosen is not None and chosen.state == WAITING


def _unfinished(queue: SegmentationQueue) -> Sequence[QueuedScan]:
    return queue.with_state("failed", "canceled")


def _fraction(now: Situation) -> float | None:
    if now.preparing is not None:
        return now.preparing[0] / max(1, now.preparing[1])
    if now.job and now.progress is not None and now.progress.total:
        return now.progress.fraction
    return None
