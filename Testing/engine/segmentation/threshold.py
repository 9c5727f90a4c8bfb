"""Segmenting without a network, for tests of what is around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from glmae.errors import ScanError
from glmae.events import Events
from glmae.job import Job
from glmae.scans.case import Case
from glmae.scans.cases import find_images
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.fingerprint import Fingerprint
from glmae.scans.image import read_channels
from glmae.segmentation.batch import BatchRun
from glmae.segmentation.report import ModelMark
from glmae.segmentation.result import Result

CLASSES = ClassTable((SegmentClass(1, "bright"), SegmentClass(7, "brightest")))
MODEL = ModelMark("threshold", "0" * 64)


def thresholded(case: Case) -> Result:
    """The brightest tenth and hundredth of the voxels."""
    if len(case.images) > 1:
        raise ScanError(f"{case.name}: 2 channels, but the model was trained with 1")
    images = read_channels(case.images)
    tenth, hundredth = (float(edge) for edge in np.quantile(sitk.GetArrayViewFromImage(images[0]), (0.9, 0.99)))
    labels = sitk.Cast(images[0] >= tenth, sitk.sitkUInt8) + 6 * sitk.Cast(images[0] >= hundredth, sitk.sitkUInt8)
    return Result(tuple(images), labels, {1: 0.1, 7: 0.45})


def run(batch: BatchRun, segment_one: Callable[[Case], Result] = thresholded) -> list[str]:
    """Run a batch whose cases `segment_one` reads by itself; the failed ones."""
    return batch.run(lambda case, beside: None, lambda case, scan: segment_one(case))


def batch_of(images: list[Path], out: Path, events: Events, **changes: object) -> BatchRun:
    """A batch with the defaults of `segment`."""
    values: dict = {
        "classes": CLASSES,
        "fingerprint": Fingerprint(),
        "model": MODEL,
    }
    file_format = str(changes.pop("file_format", "seg.nrrd"))
    job = Job(events, torch.device("cpu"), go_on="run the same command again")
    return BatchRun(find_images(images), out, file_format, job=job, **(values | changes))
