"""Ranking scans as a job: writes those without a label, says what the engine is to do, takes in the order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glmae.errors import RequestError

from ..scene.scan_table import Scan
from ..scene.scene_cases import SceneCase
from ..translation import tr as _
from .case_folder import CaseFolder
from .folder import SUGGEST, JobFolder, JobRecord
from .training import box_of


def new_suggestion(jobs: Path, model: str, model_folder: Path, device: str) -> JobFolder:
    """The folder of a ranking by a model."""
    options = ["--model", str(model_folder), "--device", device]
    title = _("Ranking with {model}").format(model=model)
    return JobFolder.create(jobs, JobRecord(SUGGEST, title, details={"model": model, "options": options}))


def write_unlabelled(job: JobFolder, scans: Sequence[Scan], scene: Any, region: Any | None) -> Iterator[int]:
    """Write one scan after the other, then the engine's words; yields the number written after each.

    Raises:
        RequestError: a scan was deleted meanwhile, or does not meet the region.
        ScanError: a scan cannot be written.
    """
    folder = CaseFolder(job.cases)
    for number, scan in enumerate(scans, start=1):
        volume = scene.GetNodeByID(scan.volume_id)
        if volume is None:
            raise RequestError(_("{scan} is no longer in the scene; press Rank scans again.").format(scan=scan.name))
        folder.add(SceneCase((volume,)), box_of(region, volume))
        yield number
    job.update(words=("suggest", "--images", str(folder.images), *job.record.details["options"]))


def ranked(event: Mapping[str, Any], job: JobFolder) -> tuple[str, str] | None:
    """The scan that a `suggestion` is about: the ID of its volume, and a sentence; None for an unknown one."""
    for case in CaseFolder.read(job.cases).cases:
        if case.name == event.get("case"):
            reason = str(event.get("reason") or "").replace(case.name, case.title)
            return case.volumes[0], _("Label {scan} next: {reason}").format(scan=case.title, reason=reason)
    return None
