"""What segmenting one scan gives, and the files that it is written to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from ..scans.case import Case
from ..scans.classes import ClassTable
from ..scans.segmentation_file import write_segmentation
from ..scans.written_image import write_labelmap
from .dicom_seg import write_dicom_seg

FORMATS = ("seg.nrrd", "nii.gz", "dcm")


@dataclass(frozen=True)
class Result:
    """One segmented scan.

    Attributes:
        images: the channels of the scan; the first gives the grid. Empty if they were not read for it.
        labels: label map with the training values of the classes, on the grid of the scan.
        uncertainty: mean of 1 - (largest probability) over each class that was found, by its value.
        left_out: share of what was found of a class that lay outside its largest part and is not in `labels`, by its
            value; see `single_piece`.
    """

    images: tuple[sitk.Image, ...]
    labels: sitk.Image
    uncertainty: dict[int, float] = field(default_factory=dict)
    left_out: dict[int, float] = field(default_factory=dict)


def write_result(path: Path, labels: sitk.Image, classes: ClassTable, case: Case) -> None:
    """Write the segmentation of a case, in the format of the ending, one of `FORMATS`; whole or not at all.

    Raises:
        StorageError: it cannot be written.
        ScanError: for `dcm`: the scan is no DICOM series, which the result could refer to.
    """
    if path.name.endswith(".seg.nrrd"):
        write_segmentation(path, labels, classes)
    elif path.name.endswith(".dcm"):
        write_dicom_seg(path, labels, classes, case)
    else:
        write_labelmap(path, labels, classes)
