"""How many voxels each segment of a node holds. Counting takes a moment, so that it is done once a change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy


@dataclass(frozen=True)
class SegmentArray:
    """One segment's voxels.

    Attributes:
        identifier: the segment's ID.
        name: the segment's name.
        mask: bool [K, J, I], on the part of the grid that the label map covers; empty for an empty segment.
        first: index (k, j, i) of its first voxel on the segmentation's grid.
    """

    identifier: str
    name: str
    mask: np.ndarray
    first: tuple[int, int, int]


def segment_arrays(segmentation: Any) -> Iterator[SegmentArray]:
    """The segments of a node that have a binary label map, each as a mask."""
    source = segmentation.GetSegmentation()
    representation = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    for index in range(source.GetNumberOfSegments() if source else 0):
        segment = source.GetNthSegment(index)
        image = segment.GetRepresentation(representation)
        if image is None:
            continue
        mask = np.zeros((0, 0, 0), bool)
        scalars = image.GetPointData().GetScalars()
        if not image.IsEmpty() and scalars is not None:
            mask = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]) == segment.GetLabelValue()
        i, _i, j, _j, k, _k = image.GetExtent()
        yield SegmentArray(source.GetNthSegmentID(index), segment.GetName() or "", mask, (k, j, i))


class VoxelCounts:
    """Voxels of each segment of the scene's segmentations, by segment ID; counted anew only when a node has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, dict[str, int]]] = {}

    def known(self, segmentation: Any) -> dict[str, int] | None:
        """The counts of a node; None when it has to be counted (again)."""
        stamp, counts = self._known.get(segmentation.GetID(), (-1, {}))
        return counts if stamp == stamp_of(segmentation) else None

    def count(self, segmentation: Any) -> dict[str, int]:
        """Count the voxels of one node."""
        stamp = stamp_of(segmentation)
        counts = {entry.identifier: int(np.count_nonzero(entry.mask)) for entry in segment_arrays(segmentation)}
        self._known[segmentation.GetID()] = (stamp, counts)
        return counts


def stamp_of(segmentation: Any) -> int:
    """A number that changes with every stroke of the brush in a node."""
    source = segmentation.GetSegmentation()
    representation = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    stamps = [source.GetMTime()]
    for index in range(source.GetNumberOfSegments()):
        image = source.GetNthSegment(index).GetRepresentation(representation)
        stamps.append(0 if image is None else image.GetMTime())
    return int(max(stamps))
