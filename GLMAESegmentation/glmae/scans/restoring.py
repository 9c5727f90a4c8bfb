"""From the network's classes and probabilities back to the scan's own grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import SimpleITK as sitk

from .geometry import Geometry, reordered, slices
from .resampling import SLAB_VOXELS, bounding_box, covered, interpolated, meet, resample


def scan_probabilities(probabilities: np.ndarray, grid: Geometry, source: Geometry) -> list[sitk.Image]:
    """The probability of each class 1..n on the voxels of the scan, interpolated linearly.

    Args:
        probabilities: [n + 1, I, J, K], background first; they sum to 1 in each voxel.
        grid: of the prepared scan.
        source: of the scan.

    Returns:
        float32, 0-1, on exactly the grid of the scan.
    """
    native = source.along(grid.direction)
    found = []
    for share in probabilities[1:]:
        image = grid.image(np.ascontiguousarray(np.transpose(share), dtype=np.float32))
        found.append(reordered(image if native.same_grid(grid) else resample(image, native, outside=None), source))
    return found


def restore_classes(numbers: np.ndarray, native: Geometry, source: Geometry, values: Sequence[int]) -> sitk.Image:
    """The label map of class numbers that lie on the voxels of the scan already.

    Args:
        numbers: uint8 [K, J, I], 0..n.
        native: their grid: that of the scan, in any order of axes.
        source: the grid of the scan.
        values: label values of the classes 1..n in the result.

    Returns:
        UInt8 (UInt16 if a value needs it), on exactly the grid of the scan.
    """
    lookup = np.array([0, *values], dtype=np.uint8 if max(values, default=0) <= 255 else np.uint16)
    return reordered(native.image(lookup[numbers]), source)


def interpolated_classes(slabs: Iterable[tuple[int, np.ndarray]], grid: Geometry, native: Geometry) -> np.ndarray:
    """The class of the largest probability on a grid of other voxels, slab by slab.

    Each class is interpolated linearly, and only where it can win: where it is the largest of n + 1 shares of 1, it has
    at least 1 / (n + 1). So neither memory nor, as classes are small, time grows much with their number.

    Args:
        slabs: first plane and probabilities [n + 1, I, J, planes], one after the other along K; background first.
        grid: of the whole of the slabs.
        native: of the result; the same axes, in the same order.

    Returns:
        uint8 [K, J, I].
    """
    result = np.zeros(tuple(reversed(native.size)), dtype=np.uint8)
    held = np.empty((0, 0, 0, 0), dtype=np.float32)
    done = 0
    for start, slab in slabs:
        end = start + slab.shape[3]
        # Between the last plane of the slab before and the first of this one are voxels of the scan, too.
        keep = max(0, start - _source(done, grid, native)) if start else 0
        held = held[..., held.shape[-1] - keep :].copy() if keep else slab[..., :0]
        held = np.concatenate([held, slab], axis=3)
        ready = native.size[2] if end == grid.size[2] else _before(end - 1, grid, native)
        part = grid.part((0, 0, end - held.shape[3]), held.shape[1:])
        _choose(result, held, part, native, (done, ready))
        done = max(done, ready)
    return result


def _source(plane: int, grid: Geometry, native: Geometry) -> int:
    """The last plane of `grid` that is not behind a plane of `native`."""
    place = grid.index(native.point((0, 0, plane)))[2]
    return max(0, math.floor(place - 1e-3))


def _before(plane: int, grid: Geometry, native: Geometry) -> int:
    """How many planes of `native` are not behind a plane of `grid`."""
    place = native.index(grid.point((0, 0, plane)))[2]
    return min(native.size[2], max(0, math.floor(place - 1e-3) + 1))


def _choose(
    result: np.ndarray, probabilities: np.ndarray, grid: Geometry, native: Geometry, planes: tuple[int, int]
) -> None:
    """Write the largest classes into some planes of the result [K, J, I]."""
    classes = len(probabilities)
    boxes = {}
    for number in range(1, classes):
        box = bounding_box(probabilities[number] >= 0.999 / classes, margin=1)
        if box is not None:
            boxes[number] = (box, covered(box, grid, native))
    thickness = max(1, SLAB_VOXELS // (native.size[0] * native.size[1]))
    for start in range(*planes, thickness):
        slab = ((0, native.size[0]), (0, native.size[1]), (start, min(start + thickness, planes[1])))
        parts = {number: meet(reach, slab) for number, (_, reach) in boxes.items()}
        parts = {number: part for number, part in parts.items() if all(low < high for low, high in part)}
        if not parts:
            continue
        hull = tuple((min(p[a][0] for p in parts.values()), max(p[a][1] for p in parts.values())) for a in range(3))
        best = interpolated(probabilities[0], covered(hull, native, grid), grid, hull, native)
        winner = np.zeros(best.shape, dtype=np.uint8)
        for number, part in parts.items():
            share = interpolated(probabilities[number], boxes[number][0], grid, part, native)
            inside = tuple(slice(part[a][0] - hull[a][0], part[a][1] - hull[a][0]) for a in (2, 1, 0))
            wins = share > best[inside]
            best[inside][wins] = share[wins]
            winner[inside][wins] = number
        result[slices(hull[::-1])] = winner
