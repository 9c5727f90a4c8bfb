"""DICOM segmentations: results that refer to the series that they were made from. Needs the package highdicom.

As the standard requires, such a file repeats what its series says of the patient; the other formats never do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..errors import RequestError, ScanError
from ..files import last_line, writing
from ..scans.case import Case
from ..scans.classes import ClassTable, SegmentClass
from ..scans.dicom import DicomSeries
from ..scans.dicom_volume import frame_order, series_files

# Where a class has no terminology: Slicer's default, "Tissue".
_TISSUE = ("85756007", "SCT", "Tissue")
_UTF_8 = "ISO_IR 192"
# Tags of type 2, which anonymizing programs leave out.
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyID", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
_LONGEST_TEXT = 64


def check_installed() -> None:
    """Find out before the work whether such files can be written.

    Raises:
        RequestError: the package is missing.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise RequestError(
            "DICOM segmentations need the package highdicom; install it with: pip install highdicom"
        ) from error


def check_source(case: Case, classes: ClassTable) -> None:
    """Find out before the work whether a segmentation of a case can be written, by making one of two slices.

    Raises:
        ScanError: see `write_dicom_seg`.
    """
    slices = _slices(case)[:2]
    count = int(slices[0].get("NumberOfFrames") or len(slices))
    _segmentation(case, slices, np.ones((count, slices[0].Rows, slices[0].Columns), dtype=np.uint8), classes)


def write_dicom_seg(path: Path, labels: sitk.Image, classes: ClassTable, case: Case) -> None:
    """Write a binary DICOM segmentation, one segment a class; whole or not at all. Its text is UTF-8.

    Args:
        labels: label map with the values of `classes`, on the grid of the series.
        classes: each becomes a segment, with its color and terminology.
        case: its first channel is a DICOM series, with one file a slice or one file of frames.

    Raises:
        ScanError: the scan is no such series, or its tags do not make a valid file.
        StorageError: it cannot be written.
    """
    slices = _slices(case)
    voxels = sitk.GetArrayViewFromImage(labels)  # [K, J, I], K in the order of the files
    lookup = np.zeros(max(classes.values, default=0) + 1, dtype=np.uint8)
    lookup[list(classes.values)] = np.arange(1, len(classes) + 1)
    numbers = lookup[voxels]
    for dataset in slices:
        # Some scanners and programs write another distance here than that of their slices, and readers believe it.
        dataset.SpacingBetweenSlices = round(labels.GetSpacing()[2], 6)
        if "PerFrameFunctionalGroupsSequence" in dataset:
            numbers = numbers[np.argsort(frame_order(case.name, dataset))]
            for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
                for measures in groups.get("PixelMeasuresSequence", ()):
                    measures.SpacingBetweenSlices = dataset.SpacingBetweenSlices
                    measures.SliceThickness = measures.get("SliceThickness") or dataset.SpacingBetweenSlices
    segmentation = _segmentation(case, slices, numbers, classes)
    writing(path, segmentation.save_as)


def _slices(case: Case) -> list[Any]:
    """The tags of the slices of a case, their text decoded, and empty where they lack what may be empty."""
    import pydicom

    source = case.images[0]
    if not isinstance(source, DicomSeries) and not source.is_dir():
        raise ScanError(
            f"{source} is no DICOM series, so no DICOM segmentation can refer to it; choose --format seg.nrrd."
        )
    slices, files = [], series_files(source)
    for file in files:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        framed = "PerFrameFunctionalGroupsSequence" in dataset
        if (len(files) > 1 and framed) or (int(dataset.get("NumberOfFrames") or 1) > 1 and not framed):
            raise ScanError(f"{source} has frames that no DICOM segmentation can refer to; choose --format seg.nrrd.")
        dataset.decode()
        dataset.SpecificCharacterSet = _UTF_8
        for tag in _MAY_BE_EMPTY:
            if tag not in dataset:
                setattr(dataset, tag, "")
        slices.append(dataset)
    return slices


def _segmentation(case: Case, slices: list[Any], numbers: np.ndarray, classes: ClassTable) -> Any:
    import highdicom

    try:
        return highdicom.seg.Segmentation(
            source_images=slices,
            pixel_array=numbers,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(n, entry) for n, entry in enumerate(classes.with_colors(), start=1)],
            series_instance_uid=highdicom.UID(),
            series_number=int(slices[0].get("SeriesNumber") or 0) + 1000,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="SlicerGLMAE",
            manufacturer_model_name="GLMAE",
            software_versions=__version__,
            device_serial_number="0",
            series_description="Segmentation by GLMAE",
        )
    except Exception as error:  # whatever the tags of a series make of it
        source, reason = case.images[0], last_line(error)
        raise ScanError(f"{source} does not make a DICOM segmentation ({reason}); choose --format seg.nrrd.") from error


def _described(number: int, entry: SegmentClass) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    category, kind = _codes(entry)
    assert entry.color is not None
    family = codes.cid7162.ArtificialIntelligence
    algorithm = highdicom.AlgorithmIdentificationSequence(name="GLMAE", version=__version__, family=family)
    red, green, blue = (round(255 * part) for part in entry.color)
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=_text(entry.name),
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_rgb(red, green, blue),
    )


def _codes(entry: SegmentClass) -> tuple[Any, Any]:
    """Category and type of a class, from `context~category~type~...` with parts `scheme^code^meaning`."""
    from highdicom.sr import CodedConcept

    found = []
    for part in (entry.terminology or "").split("~")[1:3]:
        words = part.split("^")
        complete = len(words) == 3 and all(words)
        found.append((words[1], words[0], _text(words[2])) if complete else _TISSUE)
    category, kind = found if len(found) == 2 else (_TISSUE, _TISSUE)
    return CodedConcept(*category), CodedConcept(*kind)


def _text(text: str) -> str:
    """A name as DICOM takes it: short, without backslashes, which would part it, and control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text.replace("\\", "/"))[:_LONGEST_TEXT]
