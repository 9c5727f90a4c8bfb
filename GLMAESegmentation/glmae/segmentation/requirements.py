"""What a training would meet here, said before it begins: odd labels, the device, the memory that it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backbone.presets import preset
from ..errors import RequestError, ScanError
from ..events import Events, recorded, silent
from ..job import begin
from ..scans.cases import find_cases
from ..scans.classes import ClassTable
from ..scans.finding import Finding
from ..scans.label_check import Inspection, inspect_labels
from ..scans.lasting_plan import lasting_plan
from ..scans.preparation import prepared_grid
from .finetune_config import CROP_VOXELS, SCAN_VOXELS, FinetuneConfig, plan_crop
from .memory_ladder import MemoryLadder
from .network import SegmentationNetwork


def check(
    *,
    images: Path,
    labels: Path,
    cases: Sequence[str] | None = None,
    classes: Path | None = None,
    device: str = "auto",
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Finding]:
    """Check the labels and estimate the memory of a training with all defaults; the same as `glmae check`.

    Args:
        events: told each finding, the device and the memory.

    Returns:
        The findings; with one of severity "error" a training would not begin.

    Raises:
        RequestError: the device cannot be used, or has too little memory.
        Stopped: the user stopped.
    """
    events = events or silent()
    job = begin("check", device, events, should_stop, "run the same command again")
    found = inspect_folders(images, labels, cases, classes, events, job.check)
    for finding in found.findings:
        finding.report(events)
    if not found.errors:
        plan = lasting_plan(found.measured, found.classes, SCAN_VOXELS[job.device.type], cases)
        shapes = [prepared_grid(one.grid, plan.preparation).size for one in found.measured if one.name in plan.names]
        backbone = preset(FinetuneConfig.preset, channels=len(plan.preparation.normalization))
        crop = plan_crop(shapes, backbone.patch_size, CROP_VOXELS[job.device.type])
        config = FinetuneConfig(crop=crop)
        network = SegmentationNetwork(backbone, len(found.classes))
        MemoryLadder(config, backbone.patch_size).plan(network, job.device, events)
    count = len(found.findings) or "No"
    events.finished("check", findings=len(found.findings), message=f"{count} finding{'' if count == 1 else 's'}.")
    return found.findings


def inspect_folders(
    images: Path,
    labels: Path,
    names: Sequence[str] | None = None,
    classes: Path | None = None,
    events: Events | None = None,
    check: Callable[[], None] = lambda: None,
) -> Inspection:
    """Inspect the labeled cases of two folders, given as to `find_cases`; what it would refuse is a finding too.

    `events` and `check` are those of `inspect_labels`.
    """
    heard: list[dict[str, Any]] = []
    try:
        cases, table = find_cases(images, labels, names, classes, recorded(heard))
    except (RequestError, ScanError) as error:
        return Inspection(ClassTable(()), [Finding("request", "error", str(error)), *map(Finding.heard, heard)], [], {})
    found = inspect_labels(cases, table, events, check)
    return replace(found, findings=[*map(Finding.heard, heard), *found.findings])
