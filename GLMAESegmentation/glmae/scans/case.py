"""One scan of a job: its files, what is said of its label, and what tells it from itself as it was before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .classes import ClassTable
from .dicom import DicomSeries
from .geometry import Geometry
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


def image_state(case: Case) -> list[Any]:
    """Changes with all that the channels of a case depend on, their files with size and time of change; JSON values.

    Raises:
        ScanError: a file of the case is gone.
    """
    return [list(case.missing), *_files(case, case.images)]


def label_state(case: Case, classes: ClassTable) -> list[Any]:
    """Changes with all that the label of a case, in numbers of `classes`, depends on; otherwise as `image_state`."""
    state: list[Any] = [repr(case.region), case.unknown]
    state.append(None if case.annotated is None else sorted(case.annotated))
    state += [None if table is None else table.to_json() for table in (classes, case.classes)]
    return [*state, *_files(case, (case.label, case.region.mask if case.region else None))]


def state_key(state: list[Any]) -> str:
    """A name for a state, fit for files."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:24]


def _files(case: Case, files: Iterable[Path | DicomSeries | None]) -> list[Any]:
    found: list[Any] = []
    try:
        for file in files:
            if file is None:
                continue
            if isinstance(file, DicomSeries):
                inner = list(file.files)
            else:
                inner = sorted(file.iterdir()) if file.is_dir() else [file]
            found += [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in inner]
    except OSError as error:
        raise ScanError(f"{error.filename} of case {case.name} cannot be read; check the path.") from error
    return found
