"""One scan of a job: its files, and what is said of its label."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .classes import ClassTable
from .geometry import Geometry
from .region import Region


@dataclass(frozen=True)
class DicomSeries:
    """One series, where a folder holds several, or several folders one.

    Attributes:
        folder: that its files are in, or in folders below it.
        files: in any order.
        number: of the series.
        modality: CT, MR, ...
    """

    folder: Path
    files: tuple[Path, ...]
    number: str
    modality: str

    def __str__(self) -> str:
        return f"{self.folder} (series {self.number}: {self.modality}, {len(self.files)} files)"


@dataclass(frozen=True)
class Case:
    """One scan, with its label where there is one.

    Attributes:
        name: unique in a job; results are named after it.
        images: one file, DICOM series, or folder with one, for each channel; the first gives the grid.
        label: a label map or a Slicer segmentation.
        annotated: names of the classes that were drawn in this case; None: those that its label holds.
        region: the part of the scan that was labeled; None: all of it.
        classes: what the values of this case's label map mean; None: as in the table of the whole job.
        unknown: the value in this case's label map of voxels of which nothing is known.
        missing: places, among the channels of the job, of those that this case lacks; `images` are the others.
    """

    name: str
    images: tuple[Path | DicomSeries, ...]
    label: Path | None = None
    annotated: frozenset[str] | None = None
    region: Region | None = None
    classes: ClassTable | None = None
    missing: tuple[int, ...] = ()
    unknown: int | None = None


def content_hash(images: Sequence[sitk.Image]) -> str:
    """SHA-256 over grid and voxels of the channels of a scan: the same scan has it again under any other name."""
    digest = hashlib.sha256()
    for image in images:
        grid = Geometry.of(image)
        digest.update(repr((grid.size, [round(s, 4) for s in grid.spacing])).encode())
        digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
    return digest.hexdigest()
