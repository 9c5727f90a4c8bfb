"""From a scan to what the network sees; `restoring` is the way back.

Network space: arrays [C, I, J, K] whose index axes lie along those of the set (see `common_axes`; Right, Anterior,
Superior unless scans lie askew: they are not rotated), one spacing for all scans, intensities of mean 0 and standard
deviation 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..json_record import JsonRecord
from .classes import IGNORE
from .common_axes import CommonAxes
from .fingerprint import Fingerprint, Intensity
from .geometry import Geometry, reordered, slices
from .normalization import Normalization, normalize
from .resampling import bounding_box, covered, resample, resample_smoothly, smoothed
from .structures import voxel_counts

# An axis that is this close to the planned spacing is left alone: resampling would blur it for nothing.
_CLOSE = 0.02
_SMALLEST_DIAMETER = 8.0
# An axis is made at most so many times finer, to be like the others; all axes, where a scan is smaller than a crop.
# So many crops make up the voxels of a scan, with what rounding to whole tokens takes.
_FINER, _FINER_SMALL, _CROPS = 3.0, 2.0, 10.0
# A CT is seen with so much on either side of the mean of what is labeled, and with at most so many standard deviations
# from end to end: in the window of a single soft organ, all around it would be one dark and one bright.
_AROUND_HU, _DEVIATIONS = 200.0, 6.0


@dataclass(frozen=True)
class Preparation(JsonRecord):
    """How scans are brought to the network.

    Attributes:
        spacing: along the common axes, mm.
        normalization: one a channel.
        foreground: the scan is cropped to the box of the voxels above this value (of the first channel, before it is
            normalized); None: it is kept whole.
        axes: the order of axes to which each scan is brought.
    """

    spacing: tuple[float, float, float]
    normalization: tuple[Normalization, ...]
    foreground: float | None = None
    axes: CommonAxes = CommonAxes()


def plan_preparation(fingerprint: Fingerprint, max_voxels: int) -> Preparation:
    """Spacing and normalization for a set of scans.

    Where classes are to be found, the voxels of the median scan are to be as near to cubes as `max_voxels` of them
    allow: all axes get the spacing t, but none less than a third of its median spacing over the scans, and none less
    than the finest axis. The backbone learned from such voxels. Without classes no axis is made finer.

    t is the smallest with which the median scan has no more than `max_voxels` voxels, but it stays under 1/8 of the
    diameter of the smallest class (of the ball with its median volume), because a structure of fewer voxels than that
    cannot be learned well; a larger scan is then seen in parts.

    A scan that is smaller than a crop even so, which has a tenth of `max_voxels`, is made finer along all axes until
    it fills one, at most twofold: a small structure is learned better when it is spread over more voxels.

    Args:
        max_voxels: what the median scan should have at most.
    """
    median = np.median(np.array(fingerprint.spacings), axis=0)
    extent = np.median(np.array(fingerprint.spacings) * np.array(fingerprint.sizes), axis=0)
    limit = min((size.diameter / _SMALLEST_DIAMETER for size in fingerprint.classes), default=math.inf)
    limit = float(f"{limit:.1e}")  # a corrected label should not change it by a hair

    def voxels(sides: np.ndarray) -> float:
        return float(np.prod(extent / sides))

    finest, coarsest = float(median.min()), float(extent.max())
    least = np.maximum(median / _FINER, finest) if fingerprint.classes else median
    threshold = _smallest(lambda t: voxels(np.maximum(least, t)) <= max_voxels, finest, coarsest)
    low = max(finest, min(threshold, limit))
    ends = np.maximum(least, low), np.maximum(median, low)
    threshold = _smallest(lambda t: voxels(np.clip(t, *ends)) <= max_voxels, low, coarsest)
    sides = np.clip(threshold, *ends)
    if fingerprint.classes:
        sides = sides * np.clip((_CROPS * voxels(sides) / max_voxels) ** (1 / 3), 1 / _FINER_SMALL, 1)
    first, second, third = (round(float(side), 4) for side in sides)
    return Preparation(
        (first, second, third),
        tuple(
            Normalization("ct", *_hounsfield(channel)) if channel.modality == "ct" else Normalization("zscore")
            for channel in fingerprint.channels
        ),
        axes=fingerprint.axes,
    )


def _hounsfield(channel: Intensity) -> tuple[float, float, float, float]:
    """Low, high, mean and deviation of a CT's window, rounded so that a corrected label seldom changes them."""
    low = 20.0 * math.floor(min(channel.low, channel.mean - _AROUND_HU) / 20)
    high = 20.0 * math.ceil(max(channel.high, channel.mean + _AROUND_HU) / 20)
    return low, high, float(round(channel.mean, -1)), float(round(max(channel.std, (high - low) / _DEVIATIONS), -1))


def _smallest(fits: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number from `low` to `high` that fits, as `high` does and all that is larger than one that does."""
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def prepare_image(
    images: Sequence[sitk.Image], preparation: Preparation, missing: Sequence[int] = ()
) -> tuple[np.ndarray, Geometry]:
    """Bring a scan to network space.

    The same anatomy gives the same array, in whatever order of axes the scan is stored; that of the whole set.

    Args:
        images: the channels, all on one grid.
        missing: places of channels that the scan lacks; they become 0, the mean.

    Returns:
        The scan, [C, I, J, K] float32, and the grid of these voxels.

    Raises:
        ScanError: another number of channels than the preparation has.
    """
    present = [channel for channel in range(len(preparation.normalization)) if channel not in missing]
    if len(images) != len(present):
        raise ScanError(
            f"the scan has {len(images)} channels and the model was trained with {len(preparation.normalization)}; "
            "give the same channels in the same order."
        )
    native = preparation.axes.native(Geometry.of(images[0]))
    grid = prepared_grid(images[0], preparation)
    prepared = np.zeros((len(preparation.normalization), *grid.size), dtype=np.float32)
    box = None
    for channel, image in zip(present, images, strict=True):
        moved = reordered(image, native)
        if grid == native:
            prepared[channel] = np.transpose(sitk.GetArrayViewFromImage(moved))  # [I, J, K]
        else:
            prepared[channel] = np.transpose(resample_smoothly(moved, grid))
        if channel == present[0] and preparation.foreground is not None:
            box = bounding_box(prepared[channel] > preparation.foreground, margin=0)
        normalize(prepared[channel], preparation.normalization[channel])
    if box is not None:
        prepared, grid = prepared[(slice(None), *slices(box))], grid.within(box)
    return prepared, grid


def prepared_grid(image: sitk.Image | Geometry, preparation: Preparation) -> Geometry:
    """The grid that `prepare_image` brings a scan to, before it crops to the foreground."""
    native = preparation.axes.native(Geometry.of(image) if isinstance(image, sitk.Image) else image)
    spacing = [
        own if abs(own / planned - 1) <= _CLOSE else planned
        for own, planned in zip(native.spacing, preparation.spacing, strict=True)
    ]
    return native.resized(spacing)


def prepare_label(label: sitk.Image, grid: Geometry) -> np.ndarray:
    """Bring a label map (see `labels`) to network space.

    Class by class it is smoothed and interpolated like the image, and the largest wins. A structure that is thinner
    than the new voxels would lose everywhere: one that keeps less than 2/3 of its volume takes the background voxels in
    which it is strongest until it has its volume again. A new voxel is known if a known one lies in it, or it in a
    known one, and only what is known has a say in it: single labeled slices would be outvoted otherwise.

    Args:
        label: UInt8, 0..n and 255, on the grid of the scan.
        grid: of the prepared scan.

    Returns:
        uint8 [I, J, K].
    """
    native = Geometry.of(label).along(grid.direction)
    moved = reordered(label, native)
    if native.same_grid(grid):
        return np.array(np.transpose(sitk.GetArrayViewFromImage(moved)), dtype=np.uint8, order="C")
    voxels = np.transpose(sitk.GetArrayViewFromImage(moved))  # [I, J, K]
    result = np.zeros(grid.size, dtype=np.uint8)
    # Background wins with more than half, so that no class has to be compared with the sum of the others.
    best = np.full(grid.size, 0.5, dtype=np.float32)
    counts = voxel_counts(sitk.GetArrayViewFromImage(moved))
    present = [int(number) for number in np.flatnonzero(counts) if number not in (0, IGNORE)]
    known_share = np.ones(grid.size, dtype=np.float32)
    if counts[IGNORE] and present:
        part, share = _class_share(voxels != IGNORE, native, grid)
        known_share[...] = 0
        known_share[part] = share
    for number in present:
        part, share = _class_share(voxels == number, native, grid)
        share = share / np.maximum(known_share[part], 1e-3)
        wins = share > best[part]
        best[part][wins] = share[wins]
        result[part][wins] = number
    for number in present:
        _keep_volume(result, number, voxels == number, native, grid)
    if counts[IGNORE]:
        result[~_known(voxels != IGNORE, native, grid)] = IGNORE
    return result


def _class_share(mask: np.ndarray, native: Geometry, grid: Geometry) -> tuple[tuple[slice, ...], np.ndarray]:
    """The share (0-1) of a class in the voxels of `grid`: where these lie, and [I, J, K]."""
    margin = 2 + math.ceil(3 * max(new / old for new, old in zip(grid.spacing, native.spacing, strict=True)))
    box = bounding_box(mask, margin)
    assert box is not None
    image = native.within(box).image(np.ascontiguousarray(np.transpose(mask[slices(box)]), dtype=np.float32))
    part = covered(box, native, grid)
    share = sitk.GetArrayFromImage(resample(smoothed(image, grid), grid.within(part), outside=None))
    return slices(part), np.transpose(share)


def _known(known: np.ndarray, native: Geometry, grid: Geometry) -> np.ndarray:
    """A mask [I, J, K] on a grid of the same axes; a coarser voxel is in it if any that lies in it was."""
    offset = grid.index(native.origin)
    for axis in range(3):
        scale = native.spacing[axis] / grid.spacing[axis]
        if scale < 1:
            there = np.round(offset[axis] + scale * np.arange(native.size[axis]))
            starts = np.searchsorted(there, np.arange(grid.size[axis])).clip(max=native.size[axis] - 1)
            known = np.logical_or.reduceat(known, starts, axis=axis)
        elif native.size[axis] != grid.size[axis]:
            nearest = np.round((np.arange(grid.size[axis]) - offset[axis]) / scale).astype(int)
            known = known.take(nearest.clip(0, native.size[axis] - 1), axis=axis)
    return known


def _keep_volume(result: np.ndarray, number: int, mask: np.ndarray, native: Geometry, grid: Geometry) -> None:
    wanted = round(np.count_nonzero(mask) * native.voxel_volume / grid.voxel_volume)
    missing = max(1, wanted) - int(np.count_nonzero(result == number))
    if missing <= wanted / 3 and missing < max(1, wanted):
        return
    part, share = _class_share(mask, native, grid)
    candidates = np.where(result[part] == 0, share, 0).ravel()
    order = np.argsort(-candidates, kind="stable")[:missing]
    order = order[candidates[order] > 0]
    result[part][np.unravel_index(order, share.shape)] = number
