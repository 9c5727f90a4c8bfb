"""What the labels of one scan look like: how large each class is, and which bits lie apart from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .classes import IGNORE

# Islands: bits this small and this far off, beside one large part, and not many of them.
_ISLAND_SHARE = 0.02
_MAIN_SHARE = 0.8
_ISLAND_GAP = 5
_MOST_ISLANDS = 5


@dataclass(frozen=True)
class Island:
    """A few voxels of a class far from the rest of it: one of their indices (I, J, K), and their number."""

    index: tuple[int, int, int]
    voxels: int


@dataclass(frozen=True)
class ClassShape:
    """One class in one scan: its number of voxels and its stray islands."""

    voxels: int
    islands: tuple[Island, ...]


def class_shapes(label: sitk.Image) -> dict[int, ClassShape]:
    """For each class number that a label holds.

    A class of many parts, such as lesions, has no stray islands: only where one part holds at least 80 % of a class
    are bits of at most 2 % of it, 5 voxels or more away from that part, taken for slips, and no more than five.

    Args:
        label: UInt8, 0 background, 1..n classes, 255 unknown.
    """
    boxes = sitk.LabelShapeStatisticsImageFilter()
    boxes.ComputePerimeterOff()
    boxes.Execute(label)
    shapes = {}
    for number in boxes.GetLabels():
        if number == IGNORE:
            continue
        box = boxes.GetBoundingBox(number)
        part = sitk.RegionOfInterest(label, box[3:], box[:3])
        shapes[number] = ClassShape(boxes.GetNumberOfPixels(number), _islands(part == number, box[:3]))
    return shapes


def _islands(mask: sitk.Image, start: tuple[int, ...]) -> tuple[Island, ...]:
    parts = sitk.LabelShapeStatisticsImageFilter()
    parts.ComputePerimeterOff()
    components = sitk.ConnectedComponent(mask, True)
    parts.Execute(components)
    sizes = {number: parts.GetNumberOfPixels(number) for number in parts.GetLabels()}
    main, total = max(sizes, key=lambda number: sizes[number]), sum(sizes.values())
    if len(sizes) == 1 or sizes[main] < _MAIN_SHARE * total:
        return ()
    trunk = parts.GetBoundingBox(main)
    found = []
    for number, voxels in sizes.items():
        box = parts.GetBoundingBox(number)
        if number != main and voxels <= _ISLAND_SHARE * total and _gap(box, trunk) >= _ISLAND_GAP:
            middle = [start[axis] + box[axis] + box[3 + axis] // 2 for axis in range(3)]
            found.append(Island((middle[0], middle[1], middle[2]), voxels))
    return tuple(found) if len(found) <= _MOST_ISLANDS else ()


def _gap(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Voxels between two boxes (first index and size along I, J, K), along the axis on which they are farthest."""
    return max(
        int(np.maximum(one[axis] - other[axis] - other[3 + axis], other[axis] - one[axis] - one[3 + axis]))
        for axis in range(3)
    )
