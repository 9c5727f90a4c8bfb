"""Moving voxels from one grid to another: interpolation, the smoothing before it, and boxes of voxels."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from .geometry import Box, Geometry, slices

# Beyond this, linear interpolation would skip voxels; the scan is smoothed first.
SMOOTH_FROM = 1.5
SLAB_VOXELS = 8_000_000


def resample(
    image: sitk.Image, grid: Geometry, interpolator: int = sitk.sitkLinear, *, outside: float | None = 0
) -> sitk.Image:
    """The image on another grid.

    Where both grids have the same axes, the work is done in voxel coordinates rounded to 1e-6: then the same anatomy
    gives the same numbers wherever and however the scan lies, and ties of nearest neighbors fall the same way.

    Args:
        image: 3D image. The result is float32 for linear interpolation, else of the image's type.
        grid: where the result lies.
        interpolator: `sitk.sitkLinear` or `sitk.sitkNearestNeighbor`.
        outside: value beyond the image; None: its border goes on.
    """
    source = Geometry.of(image)
    if np.allclose(source.direction, grid.direction, atol=1e-6, rtol=0):
        first = np.round(source.index(grid.origin), 6) * source.spacing
        local = sitk.Image(image)
        Geometry(source.size, source.spacing).place(local)
        there = Geometry.from_arrays(grid.size, grid.spacing, first, np.eye(3))
        result = _resample(local, there, interpolator, outside)
    else:
        result = _resample(image, grid, interpolator, outside)
    grid.place(result)
    return result


def _resample(image: sitk.Image, grid: Geometry, interpolator: int, outside: float | None) -> sitk.Image:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(interpolator)
    if interpolator == sitk.sitkLinear:
        resampler.SetOutputPixelType(sitk.sitkFloat32)
    resampler.SetUseNearestNeighborExtrapolator(outside is None)
    resampler.SetDefaultPixelValue(0.0 if outside is None else outside)
    return resampler.Execute(image)


def smoothed(image: sitk.Image, grid: Geometry) -> sitk.Image:
    """Gaussian smoothing along the axes that are going to be coarsened, so that no voxel is skipped."""
    ratios = [new / old for new, old in zip(grid.spacing, image.GetSpacing(), strict=True)]
    if max(ratios) <= SMOOTH_FROM:
        return image
    sigmas = [(ratio - 1) / 2 if ratio > SMOOTH_FROM else 0.0 for ratio in ratios]  # voxels of the scan
    smooth = sitk.DiscreteGaussianImageFilter()
    smooth.SetUseImageSpacing(False)
    smooth.SetVariance([sigma**2 for sigma in sigmas])
    smooth.SetMaximumKernelWidth(64)
    return smooth.Execute(sitk.Cast(image, sitk.sitkFloat32))


def resample_smoothly(image: sitk.Image, grid: Geometry) -> np.ndarray:
    """The image on a grid of the same axes, smoothed where coarsened, linear, its border going on: [K, J, I] float32.

    It is made in slabs, because a whole CT in single precision, and smoothed, would need many times its memory.
    """
    native = Geometry.of(image)
    margin = 2 + math.ceil(4 * grid.spacing[2] / native.spacing[2])
    result = np.empty(tuple(reversed(grid.size)), dtype=np.float32)
    thickness = max(1, SLAB_VOXELS // (grid.size[0] * grid.size[1]))
    for start in range(0, grid.size[2], thickness):
        end = min(start + thickness, grid.size[2])
        planes = (0, grid.size[0]), (0, grid.size[1]), (start, end)
        low, high = covered(planes, grid, native)[2]
        slab = image[:, :, max(0, low - margin) : min(native.size[2], high + margin)]
        moved = resample(smoothed(slab, grid), grid.within(planes), outside=None)
        result[start:end] = sitk.GetArrayViewFromImage(moved)
    return result


def interpolated(values: np.ndarray, box: Box, grid: Geometry, part: Box, native: Geometry) -> np.ndarray:
    """Values [I, J, K], of which those in `box` are enough, on the voxels `part` of another grid: [K, J, I]."""
    cut = np.ascontiguousarray(np.transpose(values[slices(box)]), dtype=np.float32)
    moved = resample(grid.within(box).image(cut), native.within(part), outside=None)
    return np.asarray(sitk.GetArrayFromImage(moved))


def covered(box: Box, grid: Geometry, other: Geometry) -> Box:
    """The voxels of `other` between the outermost voxels of `box`, and one more; beyond a border all of them."""
    offset = other.index(grid.origin)
    found = []
    for axis, (low, high) in enumerate(box):
        scale = grid.spacing[axis] / other.spacing[axis]
        first = 0 if low == 0 else math.floor(offset[axis] + low * scale) - 1
        last = other.size[axis] if high == grid.size[axis] else math.ceil(offset[axis] + (high - 1) * scale) + 2
        found.append((max(0, min(first, other.size[axis] - 1)), max(1, min(last, other.size[axis]))))
    return tuple(found)


def meet(first: Box, second: Box) -> Box:
    """The voxels in both boxes; empty (an end not above its beginning) if there are none."""
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def bounding_box(mask: np.ndarray, margin: int) -> Box | None:
    """First and one past the last index of a mask along its axes, grown by `margin` within the array."""
    box = []
    for axis in range(3):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(where):
            return None
        box.append((max(0, int(where[0]) - margin), min(mask.shape[axis], int(where[-1]) + 1 + margin)))
    return tuple(box)
