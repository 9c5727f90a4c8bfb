"""Training: writes the labeled scans, says what the engine is to do, keeps the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glmae.errors import StorageError

from ..engine.failures import Failure
from ..messages import say
from ..models.library import ModelLibrary
from ..scene.choices import BUDGET_MINUTES, PanelChoices
from ..scene.scan_table import Scan
from .case_folder import CaseFolder
from .case_writing import write_labeled
from .folder import FAILED, FINISHED, TRAIN, JobFolder, JobRecord
from .label_findings import Finding, findings_of
from .preview import TrainingPreview


def new_training(jobs: Path, choices: PanelChoices, title: str, start: str) -> JobFolder:
    """The folder of a training that will give a model called `title`; the choices are taken as they are now.

    Args:
        start: name of the model to go on from; "" for none.
    """
    length = ["--steps", str(choices.steps)] if choices.steps else ["--minutes", f"{BUDGET_MINUTES[choices.budget]:g}"]
    scratch = [] if start or choices.pretrained else ["--backbone", "none"]
    details = {"model": title, "start": start, "options": [*length, "--device", choices.device, *scratch]}
    return JobFolder.create(jobs, JobRecord(TRAIN, title, details=details))


class Training:
    """A training as a job: its scans, what its events say, its model.

    Attributes:
        findings: what the engine finds odd about the labels of the last one.
        preview: of the one under way.
    """

    def __init__(self, scene: Any, library: ModelLibrary, trained: Callable[[str], None]) -> None:
        self._scene, self._library, self._trained = scene, library, trained
        self.findings: list[Finding] = []
        self.preview = TrainingPreview()

    def write(self, folder: JobFolder, scans: Sequence[Scan], region: Any | None) -> Iterator[int]:
        """Write one scan after the other, then the engine's words; yields the number written after each.

        Raises:
            RequestError: a scan was deleted meanwhile, or does not meet the region.
            ScanError: a scan cannot be written.
            ModelError: the model to go on from cannot be used any more.
        """
        self.findings = []
        cases = CaseFolder(folder.cases)
        yield from write_labeled(cases, scans, self._scene, region)
        words = ["finetune", "--images", str(cases.images), "--labels", str(cases.labels), "--out", str(folder.out)]
        if start := folder.record.details["start"]:
            self._library.copy(start, folder.start)
            words += ["--from", str(folder.start)]
        folder.update(words=(*words, *folder.record.details["options"]))

    def resume(self, folder: JobFolder) -> None:
        """Nothing is needed to go on with a training."""

    def take(self, event: Mapping[str, Any], folder: JobFolder) -> None:
        """Take in what the engine says."""
        if event["event"] == "warning":
            self.findings += findings_of(event, CaseFolder.read(folder.cases).cases)
        elif event["event"] == "preview":
            self.preview.take(event, self._scene)

    def end(self, folder: JobFolder, told_to_keep: bool) -> str:
        """Keep the model, or what was learned so far; how it ended, in a sentence."""
        self.preview.remove(self._scene)
        if folder.record.state == FINISHED:
            name = keep_model(folder, self._library)
            self._trained(name)
            return say("trained", name=name)
        return say("nothing learned" if told_to_keep else "paused")

    def fail(self, folder: JobFolder, failure: Failure) -> None:
        """What was learned stays, unless going on would end the same way."""
        self.preview.remove(self._scene)
        if folder.record.words and (not failure.lasting or can_be_finished(folder)):
            with suppress(StorageError):  # where the disk is full, the job is found by its age
                folder.update(state=FAILED)
        else:
            folder.remove()

    def cancel(self) -> None:
        """It ends before it has begun."""

    def scene_closed(self, under_way: bool) -> bool:
        """Forget what was about nodes of the scene; whether to stop."""
        self.findings = []
        self.preview.remove(self._scene)
        return False


def can_be_finished(job: JobFolder) -> bool:
    """Whether a stopped training has learned something that `glmae finetune --finish` can make a model of."""
    return job.record.kind == TRAIN and (job.out / "unfinished" / "checkpoint.safetensors").exists()


def keep_model(job: JobFolder, library: ModelLibrary) -> str:
    """Move the finished model to the others and remove the job; the model's name."""
    name = library.add(job.out, str(job.record.details.get("model") or job.record.title))
    job.remove()
    return name
