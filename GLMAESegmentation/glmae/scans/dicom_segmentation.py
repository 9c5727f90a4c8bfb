"""DICOM segmentations as labels: each segment with its name, color and codes. Needs the package highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..files import check_name, last_line
from .classes import SegmentClass
from .dicom import is_dicom, modality_of
from .geometry import Geometry

# Slicer's form of a segment's codes; the lists that they were picked from are not in the file.
_LISTS = ("Segmentation category and type - DICOM master list", "Anatomic codes - DICOM master list")


def is_dicom_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation, by its modality."""
    return is_dicom(path) and modality_of(path) == "SEG"


def read_dicom_segmentation(path: Path) -> tuple[list[SegmentClass], sitk.Image]:
    """Read the segments of a file: what each is, by its number, and a label map of the numbers.

    Returns:
        The meanings, `value` being the number of the segment, and the map; where segments overlap, that has one
        component for each, in their order.

    Raises:
        ScanError: it is no such file, damaged, holds no binary segments, or highdicom is missing.
    """
    check_name(path)
    if not is_dicom_segmentation(path):
        raise ScanError(f"{path} is no DICOM segmentation; give a label map, .seg.nrrd or DICOM segmentation.")
    try:
        import highdicom
    except ImportError as error:
        raise ScanError(f"{path} needs the package highdicom; install it with: pip install highdicom.") from error
    try:
        file = highdicom.seg.segread(path)
        if file.SegmentationType == "FRACTIONAL":
            raise ScanError(f"{path} holds fractional segments; convert it to binary ones.")
        meanings = [_meaning(file.get_segment_description(number)) for number in file.segment_numbers]
        try:
            volume = file.get_volume(combine_segments=True)
            voxels = volume.array.astype(np.uint16)
        except RuntimeError:  # segments overlap; the failed attempt keeps the tables of the file locked
            volume = highdicom.seg.segread(path).get_volume()
            voxels = volume.array.astype(np.uint16) * np.array(file.segment_numbers, dtype=np.uint16)
    except ScanError:
        raise
    except Exception as error:  # whatever a file that is not as it should be makes of its tags
        raise ScanError(
            f"{path} cannot be read as DICOM segmentation ({last_line(error)}); export it again."
        ) from error
    axes = volume.affine[:3, 2::-1]  # LPS; I, J, K are columns, rows, slices
    spacing = np.linalg.norm(axes, axis=0)
    grid = Geometry.from_arrays(voxels.shape[2::-1], spacing, volume.affine[:3, 3], axes / spacing)
    return meanings, grid.image(voxels)


def _meaning(segment: Any) -> SegmentClass:
    color = None
    if "RecommendedDisplayCIELabValue" in segment:
        from highdicom.color import CIELabColor

        red, green, blue = CIELabColor.from_dicom_value(list(segment.RecommendedDisplayCIELabValue)).to_rgb()
        color = red / 255, green / 255, blue / 255
    number = int(segment.SegmentNumber)
    name = " ".join(str(segment.get("SegmentLabel") or "").split()) or f"segment {number}"
    codes = [
        _coded(segment, key) for key in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence")
    ]
    region = _coded(segment, "AnatomicRegionSequence")
    terminology = (
        "~".join([_LISTS[0], *codes, "^^", _LISTS[1], region, "^^"]) if all(c != "^^" for c in codes) else None
    )
    return SegmentClass(number, name, color, terminology)


def _coded(segment: Any, key: str) -> str:
    """Scheme, code and meaning; empty ones if the segment has none."""
    found = segment.get(key)
    if not found:
        return "^^"
    return "^".join(str(found[0].get(part, "")) for part in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning"))
