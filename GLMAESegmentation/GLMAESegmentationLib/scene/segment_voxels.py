"""What each segment of a node holds. Looking takes a moment, so that it is done once a change."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

Found = TypeVar("Found")


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


def segments(segmentation: Any) -> dict[str, Any]:
    """The vtkSegments of a node in their order, by their IDs."""
    source = segmentation.GetSegmentation()
    count = source.GetNumberOfSegments() if source is not None else 0
    return {source.GetNthSegmentID(index): source.GetNthSegment(index) for index in range(count)}


def segment_arrays(segmentation: Any) -> Iterator[SegmentArray]:
    """The segments of a node that have a binary label map, each as a mask."""
    for identifier, segment in segments(segmentation).items():
        image = _labelmap(segment)
        if image is None:
            continue
        mask = np.zeros((0, 0, 0), bool)
        scalars = image.GetPointData().GetScalars()
        if not image.IsEmpty() and scalars is not None:
            mask = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]) == segment.GetLabelValue()
        i, _i, j, _j, k, _k = image.GetExtent()
        yield SegmentArray(identifier, segment.GetName() or "", mask, (k, j, i))


def voxel_ml(segmentation: Any | None) -> float:
    """The volume of one voxel of a node's label maps, mL; 0 where there are none."""
    images = map(_labelmap, segments(segmentation).values() if segmentation is not None else ())
    return next((math.prod(image.GetSpacing()) / 1000 for image in images if image is not None), 0.0)


class OnceAChange(Generic[Found]):
    """What a function finds in segmentation nodes; each is looked at once a change."""

    def __init__(self, look: Callable[[Any], Found]) -> None:
        self._look = look
        self._known: dict[str, tuple[int, Found]] = {}

    def known(self, segmentation: Any) -> Found | None:
        """What was found in a node as it is now; None when it has to be looked at (again)."""
        stamp, found = self._known.get(segmentation.GetID(), (-1, None))
        return found if stamp == stamp_of(segmentation) else None

    def of(self, segmentation: Any) -> Found:
        """What is found in a node."""
        found = self.known(segmentation)
        if found is None:
            stamp, found = stamp_of(segmentation), self._look(segmentation)
            self._known[segmentation.GetID()] = stamp, found
        return found


def voxel_counts(segmentation: Any) -> dict[str, int]:
    """Voxels of each segment, by its ID."""
    return {entry.identifier: int(np.count_nonzero(entry.mask)) for entry in segment_arrays(segmentation)}


def content_of(segmentation: Any) -> str:
    """A digest of names and voxels of a node's segments; the same after saving and loading, another after an edit."""
    digests = sorted(
        hashlib.sha256(repr((entry.name, *_cropped(entry))).encode()).hexdigest()
        for entry in segment_arrays(segmentation)
    )
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def _cropped(entry: SegmentArray) -> tuple[object, ...]:
    """Where the segment's voxels lie and a digest of them, whatever part of the grid its label map covers."""
    mask, first = entry.mask, list(entry.first)
    if not mask.any():
        return ()
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        mask = np.take(mask, range(inside[0], inside[-1] + 1), axis=axis)
        first[axis] += int(inside[0])
    return (*first, mask.shape, hashlib.sha256(np.packbits(mask).tobytes()).hexdigest())


def stamp_of(segmentation: Any) -> int:
    """A number that changes with every stroke of the brush in a node."""
    images = map(_labelmap, segments(segmentation).values())
    return int(max([segmentation.GetSegmentation().GetMTime(), *(one.GetMTime() for one in images if one is not None)]))


def _labelmap(segment: Any) -> Any | None:
    return segment.GetRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
