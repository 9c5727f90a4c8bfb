"""One scan of a job, and the names of its channels."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .classes import ClassTable
from .dicom import DicomSeries
from .geometry import Geometry
from .image import image_ending
from .region import Region


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


def channel_names(case: Case) -> tuple[str, ...]:
    """Names of the files without ending and name of the case; the same in all cases where people name by sequence."""
    names = []
    for file in case.images:
        path = file.folder if isinstance(file, DicomSeries) else file
        stem = path.name[: -len(image_ending(path) or "") or None]
        rest = re.sub(rf"(^|[ _.-]){re.escape(case.name)}($|[ _.-])", " ", stem)
        names.append(rest.strip(" _.-") or stem)
    return tuple(names)


def usual_channels(cases: Sequence[Case]) -> tuple[tuple[str, ...], int]:
    """The channels that most cases have, of those that have as many as most, and how many cases have exactly these."""
    counts = Counter(len(case.images) for case in cases)
    usual = max(counts, key=lambda count: (counts[count], count))
    return Counter(channel_names(case) for case in cases if len(case.images) == usual).most_common(1)[0]


def with_missing(cases: Sequence[Case]) -> list[Case]:
    """The labeled ones among the cases know which of the usual channels they lack, if all that they have is usual."""
    labelled = [case for case in cases if case.label is not None]
    if len(labelled) < 2:
        return list(cases)
    usual, _ = usual_channels(labelled)

    def told(case: Case) -> Case:
        own = channel_names(case)
        if case.label is None or len(own) >= len(usual) or own != tuple(name for name in usual if name in own):
            return case
        return replace(case, missing=tuple(number for number, name in enumerate(usual) if name not in own))

    return [told(case) for case in cases]
