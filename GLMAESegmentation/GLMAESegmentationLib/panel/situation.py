"""All that the panel decides from, at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..engine.failures import Failure
from ..engine.progress import JobProgress
from ..jobs.label_findings import Finding
from ..jobs.queue import SegmentationQueue
from ..models.scores import Score
from ..scene.choices import NORMAL
from ..scene.class_overview import ClassRow
from ..scene.scan_table import Scan
from ..setup.set_up import EngineStatus


@dataclass(frozen=True)
class Situation:
    """All that the panel decides from.

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
        model: the chosen one; "" for none.
        scores: of the chosen model.
        advice: whether more labels would help the chosen model.
        budget: how long to train.
        steps: number of steps instead of the budget; 0 for the budget.
        device: that was chosen.
        device_reason: what the engine says about the device; "" while it was not asked.
        memory: bytes that training takes, and bytes that are free; None while the engine was not asked.
        backbone: the pre-trained one that training starts from; "" for none.
        shipped: name of the pre-trained backbone that is installed; "" for none.
        region: name of the region of interest; "" for none.
        selected: the scan that is selected in the table.
        drawing: ID of the segmentation that is open for drawing; "" for none.
        job: TRAIN or SEGMENT while a job is under way, else "".
        preparing: (done, total) scans while a job's scans are being written, else None.
        stopping: whether the job was asked to stop.
        finishing: whether the model of a stopped training is being made.
        preview: what there is to say about the preview of the training; "" for nothing.
        preview_asked: whether a preview is being made.
        preview_of: ID of the segmentation that shows it, and `preview_scan` of its volume; "" for none.
        progress: of the job under way.
        queue: of the last or running segmentation.
        interrupted: titles of jobs that can be gone on with.
        learned: whether the first of them has learned something that a model can be made of.
        failure: of the last job.
        undoable: number of results that Undo would remove.
        note: the last thing that was done, in a sentence.
    """

    scans: Sequence[Scan] = ()
    classes: Sequence[ClassRow] = ()
    findings: Sequence[Finding] = ()
    checked: bool = False
    checking_labels: bool = False
    problem: str = ""
    engine: EngineStatus = field(default_factory=EngineStatus)
    checking: bool = False
    set_up: str = ""
    models: Sequence[str] = ()
    model: str = ""
    scores: Sequence[Score] = ()
    advice: str = ""
    budget: str = NORMAL
    steps: int = 0
    device: str = "auto"
    device_reason: str = ""
    memory: tuple[int, int] | None = None
    backbone: str = ""
    shipped: str = ""
    region: str = ""
    selected: str = ""
    drawing: str = ""
    job: str = ""
    preparing: tuple[int, int] | None = None
    stopping: bool = False
    finishing: bool = False
    preview: str = ""
    preview_asked: bool = False
    preview_of: str = ""
    preview_scan: str = ""
    progress: JobProgress | None = None
    queue: SegmentationQueue | None = None
    interrupted: Sequence[str] = ()
    learned: bool = False
    failure: Failure | None = None
    undoable: int = 0
    note: str = ""

    @property
    def can_compute(self) -> bool:
        """Whether the engine can run, and nobody is changing it."""
        return not self.engine.lacking and not self.engine.working
