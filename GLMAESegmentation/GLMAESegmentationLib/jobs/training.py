"""Training as a job: writes the labeled scans, says what the engine is to do, keeps the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glmae.errors import RequestError

from ..models.library import ModelLibrary
from ..scene.choices import BUDGET_MINUTES, PanelChoices
from ..scene.region_box import Box, region_box
from ..scene.scan_table import Scan
from ..scene.scene_cases import SceneCase
from ..translation import tr as _
from .case_folder import CaseFolder
from .folder import TRAIN, JobFolder, JobRecord


def new_training(jobs: Path, choices: PanelChoices, title: str) -> JobFolder:
    """The folder of a training that will give a model called `title`; the choices are taken as they are now."""
    length = ["--steps", str(choices.steps)] if choices.steps else ["--minutes", f"{BUDGET_MINUTES[choices.budget]:g}"]
    options = [*length, "--device", choices.device, *([] if choices.pretrained else ["--backbone", "none"])]
    return JobFolder.create(jobs, JobRecord(TRAIN, title, details={"model": title, "options": options}))


def write_training_cases(job: JobFolder, scans: Sequence[Scan], scene: Any, region: Any | None) -> Iterator[int]:
    """Write one scan after the other, then the engine's words; yields the number written after each.

    Raises:
        RequestError: a scan was deleted meanwhile, or does not meet the region.
        ScanError: a scan cannot be written.
    """
    folder = CaseFolder(job.cases)
    yield from write_labeled(folder, scans, scene, region)
    details = job.record.details
    words = ["finetune", "--images", str(folder.images), "--labels", str(folder.labels), "--out", str(job.out)]
    job.update(words=(*words, *details["options"]))


def write_labeled(folder: CaseFolder, scans: Sequence[Scan], scene: Any, region: Any | None) -> Iterator[int]:
    """Write one labeled scan after the other; yields the number written after each.

    Raises:
        RequestError: a scan was deleted meanwhile, or does not meet the region.
        ScanError: a scan cannot be written.
    """
    for number, scan in enumerate(scans, start=1):
        volumes, segmentation = scan.volumes(scene), scene.GetNodeByID(scan.segmentation_id)
        if not volumes or segmentation is None:
            raise RequestError(_("{scan} is no longer in the scene; press Train again.").format(scan=scan.name))
        folder.add(SceneCase(volumes, segmentation), boxes_of(region, volumes))
        yield number


def boxes_of(region: Any | None, volumes: Sequence[Any]) -> list[Box | None]:
    """The part of each volume inside the region of interest; None for all of it.

    Raises:
        RequestError: nothing of one lies inside.
    """
    boxes = [None if region is None else region_box(region, volume) for volume in volumes]
    if region is not None and None in boxes:
        raise RequestError(
            _('{scan} lies outside of "{region}"; move the region over it, or choose no region.').format(
                scan=volumes[boxes.index(None)].GetName(), region=region.GetName()
            )
        )
    return boxes


def can_be_finished(job: JobFolder) -> bool:
    """Whether a stopped training has learned something that `glmae finetune --finish` can make a model of."""
    return job.record.kind == TRAIN and (job.out / "unfinished" / "checkpoint.safetensors").exists()


def keep_model(job: JobFolder, library: ModelLibrary) -> str:
    """Move the finished model to the others and remove the job; the model's name."""
    name = library.add(job.out, str(job.record.details.get("model") or job.record.title))
    job.remove()
    return name
