"""Slicer's segmentation files, `.seg.nrrd` and `.seg.nhdr`.

The voxels are a 3D image with one value a layer; the header says for every segment in which layer and under which
value it is stored. The grid may cover only part of the scan. (Slicer: `vtkMRMLSegmentationStorageNode`.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..files import decoded
from .classes import LARGEST_VALUE, ClassTable, SegmentClass, plain_name, tidy
from .dicom_segmentation import read_dicom_segmentation
from .geometry import Geometry
from .image import SEGMENTATION_ENDINGS, image_ending, load, read_header
from .written_image import plain_labels, write_image

GENERIC_TERMINOLOGY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~"
    "Anatomic codes - DICOM master list~^^~^^"
)
_SEGMENT_KEY = re.compile(r"Segment(\d+)_(\w+)$")


@dataclass(frozen=True)
class Segment:
    """One segment: what it is, and where its voxels are stored."""

    meaning: SegmentClass
    layer: int
    label: int


@dataclass(frozen=True)
class SegmentationFile:
    """The content of a segmentation file.

    Attributes:
        segments: in the order of the file; `meaning.value` is unique among different names.
        voxels: the image of the file, one component a layer.
    """

    segments: tuple[Segment, ...]
    voxels: sitk.Image

    @property
    def layers(self) -> int:
        """Number of layers; only segments of different layers can overlap."""
        return int(self.voxels.GetNumberOfComponentsPerPixel())

    @property
    def geometry(self) -> Geometry:
        """The grid of the file, which need not be that of the scan."""
        return Geometry.of(self.voxels)

    def layer(self, number: int) -> sitk.Image:
        """The label map of one layer."""
        return self.voxels if self.layers == 1 else sitk.VectorIndexSelectionCast(self.voxels, number)


def is_segmentation(path: Path) -> bool:
    """Whether a label holds segments with names: Slicer's by its ending, DICOM's by having none of an image."""
    ending = image_ending(path)
    return ending is None or ending in SEGMENTATION_ENDINGS


def read_segmentation(path: Path) -> SegmentationFile:
    """Read a segmentation file, Slicer's or DICOM's.

    Raises:
        ScanError: the file is missing, damaged, or holds no binary segments.
    """
    path = Path(path)
    if image_ending(path) is None:
        return _from_dicom(path)
    segments = read_segments(path)
    return SegmentationFile(segments, load(path))


def read_segments(path: Path) -> tuple[Segment, ...]:
    """The segments of a segmentation file, from its header alone.

    Raises:
        ScanError: the file is missing, damaged, or holds no binary segments.
    """
    if image_ending(path) is None:
        return _from_dicom(path).segments
    header = read_header(path)
    fields: dict[int, dict[str, str]] = {}
    for key in header.GetMetaDataKeys():
        if found := _SEGMENT_KEY.match(key):
            fields.setdefault(int(found[1]), {})[found[2]] = decoded(header.GetMetaData(key))
    if not fields:
        raise ScanError(f"{path} names no segments; save it as a segmentation from Slicer, or name a label map .nrrd.")
    contained = "Segmentation_ContainedRepresentationNames"
    if header.HasMetaDataKey(contained) and "Fractional" in header.GetMetaData(contained):
        raise ScanError(f"{path} holds fractional segments; convert it to a binary label map in Slicer.")
    layers = header.GetNumberOfComponents()
    used: set[int] = set()
    values: dict[str, int] = {}
    segments = []
    try:
        for number, entry in sorted(fields.items()):
            # Before Slicer 4.11 every segment had a layer of its own, with the value 1.
            layer = _whole(entry.get("Layer"), number if layers > 1 else 0)
            label = _whole(entry.get("LabelValue"), 1)
            name = tidy(entry.get("Name", "")) or tidy(entry.get("ID", "")) or f"Segment_{number + 1}"
            if not 0 <= layer < layers:
                raise ValueError(f"segment {name!r} is in layer {layer} of {layers}")
            key = plain_name(name)
            if key not in values:
                free = (value for value in range(1, LARGEST_VALUE + 1) if value not in used)
                values[key] = label if 0 < label <= LARGEST_VALUE and label not in used else next(free)
                used.add(values[key])
            meaning = SegmentClass(values[key], name, _color(entry.get("Color")), _terminology(entry.get("Tags", "")))
            segments.append(Segment(meaning, layer, label))
    except (ValueError, OverflowError) as error:
        raise ScanError(f"{path} has a header that does not fit together ({error}); save it again.") from error
    return tuple(segments)


def write_segmentation(path: Path, labelmap: sitk.Image, classes: ClassTable) -> None:
    """Write a label map as a segmentation that Slicer opens with names, colors and terminology; whole or not at all.

    Args:
        labelmap: 3D image with the values of `classes`; 0 is background.
        classes: every one becomes a segment, also one without voxels.

    Raises:
        StorageError: it cannot be written.
    """
    grid = Geometry.of(labelmap)
    image = plain_labels(labelmap, classes)
    extents = _extents(image, classes)
    for number, entry in enumerate(classes.with_colors()):
        assert entry.color is not None
        fields = {
            "ID": f"Segment_{entry.value}",
            "Name": entry.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part:g}" for part in entry.color),
            "ColorAutoGenerated": "0",
            "LabelValue": str(entry.value),
            "Layer": "0",
            "Extent": extents[number],
            "Tags": f"Segmentation.Status:inprogress|TerminologyEntry:{entry.terminology or GENERIC_TERMINOLOGY}|",
        }
        for name, text in fields.items():
            image.SetMetaData(f"Segment{number}_{name}", text)
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    grid.place(image)
    write_image(path, image)


def _from_dicom(path: Path) -> SegmentationFile:
    meanings, voxels = read_dicom_segmentation(path)
    alone = voxels.GetNumberOfComponentsPerPixel() == 1
    first: dict[str, SegmentClass] = {}
    for meaning in meanings:
        first.setdefault(plain_name(meaning.name), meaning)
    segments = [
        Segment(first[plain_name(meaning.name)], 0 if alone else number, meaning.value)
        for number, meaning in enumerate(meanings)
    ]
    return SegmentationFile(tuple(segments), voxels)


def _extents(image: sitk.Image, classes: ClassTable) -> list[str]:
    """For each class the voxels it spans, `i0 i1 j0 j1 k0 k1`; as Slicer has it, `0 -1 ...` for an empty one."""
    boxes = sitk.LabelShapeStatisticsImageFilter()
    boxes.ComputePerimeterOff()
    boxes.Execute(image)
    present = set(boxes.GetLabels())
    texts = []
    for value in classes.values:
        extent = [0, -1] * 3
        if value in present:
            box = np.array(boxes.GetBoundingBox(value))
            extent = np.stack([box[:3], box[:3] + box[3:] - 1], axis=1).ravel().tolist()
        texts.append(" ".join(map(str, extent)))
    return texts


def _whole(text: str | None, default: int) -> int:
    """A whole number, also as `1.0`."""
    if text is None or not text.strip():
        return default
    if float(text) != int(float(text)):
        raise ValueError(f"{text!r} is no whole number")
    return int(float(text))


def _color(text: str | None) -> tuple[float, float, float] | None:
    """Red, green and blue, 0-1; None where it is no color: that is no harm."""
    try:
        red, green, blue = (float(word) for word in (text or "").split()[:3])
    except ValueError:
        return None
    return (red, green, blue) if all(0 <= part <= 1 for part in (red, green, blue)) else None


def _terminology(tags: str) -> str | None:
    for tag in tags.split("|"):
        key, _, text = tag.partition(":")
        # "TerminologyEntry" since Slicer 4.9; earlier files had the prefix "Segmentation.".
        if key.split(".")[-1] == "TerminologyEntry" and text:
            return text
    return None
