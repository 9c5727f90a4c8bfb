"""From a scan to what the network sees; `restoring` is the way back.

Network space: arrays [C, I, J, K] whose index axes point to Right, Anterior, Superior (the nearest such order: an
oblique scan is not rotated), one spacing for all scans, intensities of mean 0 and standard deviation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .fingerprint import Fingerprint
from .geometry import Geometry
from .labels import IGNORE
from .normalisation import Normalisation, normalise
from .resampling import bounding_box, covered, resample, resample_smoothly, smoothed

# An axis that is this close to the planned spacing is left alone: resampling would blur it for nothing.
_CLOSE = 0.02
_SMALLEST_DIAMETER = 8.0


@dataclass(frozen=True)
class Preparation:
    """How scans are brought to the network: spacing along R, A, S in mm, and one normalisation a channel."""

    spacing: tuple[float, float, float]
    normalisation: tuple[Normalisation, ...]

    def to_json(self) -> dict[str, Any]:
        """As stored in model.json."""
        return {"spacing": list(self.spacing), "normalisation": [asdict(entry) for entry in self.normalisation]}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Preparation:
        """The inverse of `to_json`."""
        first, second, third = (float(side) for side in content["spacing"])
        return Preparation((first, second, third), tuple(Normalisation(**entry) for entry in content["normalisation"]))


def plan_preparation(fingerprint: Fingerprint, max_voxels: int) -> Preparation:
    """Spacing and normalisation for a set of scans.

    The spacing is the median over the scans, axis by axis. If the median scan then has more than `max_voxels` voxels,
    it is coarsened to max(median spacing, t): with growing t the finest axis first until all are equal, then all. But t
    stays under 1/8 of the diameter of the smallest class (of the ball with its median volume), because a structure of
    fewer voxels than that cannot be learnt well; a larger scan is then seen in parts.

    Args:
        fingerprint: of the scans.
        max_voxels: what the median scan should have at most.
    """
    median = np.median(np.array(fingerprint.spacings), axis=0)
    extent = np.median(np.array(fingerprint.spacings) * np.array(fingerprint.sizes), axis=0)
    limit = min((size.diameter / _SMALLEST_DIAMETER for size in fingerprint.classes), default=math.inf)

    def voxels(threshold: float) -> float:
        return float(np.prod(extent / np.maximum(median, threshold)))

    threshold = float(median.min())
    if voxels(threshold) > max_voxels:
        low, high = threshold, float(extent.max())
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if voxels(middle) > max_voxels else (low, middle)
        threshold = max(threshold, min(high, limit))
    first, second, third = (round(float(side), 4) for side in np.maximum(median, threshold))
    return Preparation(
        (first, second, third),
        tuple(
            Normalisation("ct", channel.low, channel.high, channel.mean, max(channel.std, 1.0))
            if channel.modality == "ct"
            else Normalisation("zscore")
            for channel in fingerprint.channels
        ),
    )


def prepare_image(images: Sequence[sitk.Image], preparation: Preparation) -> tuple[np.ndarray, Geometry]:
    """Bring a scan to network space.

    The same anatomy gives the same array, in whatever order of axes the scan is stored.

    Args:
        images: the channels, all on one grid.
        preparation: of the model.

    Returns:
        The scan, [C, I, J, K] float32, and the grid of these voxels.

    Raises:
        ScanError: another number of channels than the preparation has.
    """
    if len(images) != len(preparation.normalisation):
        raise ScanError(
            f"the scan has {len(images)} channels and the model was trained with {len(preparation.normalisation)}; "
            "give the same channels in the same order."
        )
    native = Geometry.of(images[0]).oriented()
    grid = prepared_grid(images[0], preparation)
    prepared = np.empty((len(images), *grid.size), dtype=np.float32)
    for channel, (image, normalisation) in enumerate(zip(images, preparation.normalisation, strict=True)):
        moved = sitk.DICOMOrient(image, "RAS")
        native.place(moved)
        if grid == native:
            prepared[channel] = np.transpose(sitk.GetArrayViewFromImage(moved))  # [I, J, K]
        else:
            prepared[channel] = np.transpose(resample_smoothly(moved, grid))
        normalise(prepared[channel], normalisation)
    return prepared, grid


def prepared_grid(image: sitk.Image | Geometry, preparation: Preparation) -> Geometry:
    """The grid that `prepare_image` brings a scan to."""
    native = (Geometry.of(image) if isinstance(image, sitk.Image) else image).oriented()
    spacing = [
        own if abs(own / planned - 1) <= _CLOSE else planned
        for own, planned in zip(native.spacing, preparation.spacing, strict=True)
    ]
    return native.resized(spacing)


def prepare_label(label: sitk.Image, grid: Geometry) -> np.ndarray:
    """Bring a label map (see `labels`) to network space.

    Class by class it is smoothed and interpolated like the image, and the largest wins. A structure that is thinner
    than the new voxels would lose everywhere: one that keeps less than 2/3 of its volume takes the background voxels in
    which it is strongest until it has its volume again. 255 goes to the nearest voxels.

    Args:
        label: UInt8, 0..n and 255, on the grid of the scan.
        grid: of the prepared scan.

    Returns:
        uint8 [I, J, K].
    """
    moved = sitk.DICOMOrient(label, "RAS")
    native = Geometry.of(label).oriented()
    native.place(moved)
    if native.same_grid(grid):
        return np.array(np.transpose(sitk.GetArrayViewFromImage(moved)), dtype=np.uint8, order="C")
    voxels = np.transpose(sitk.GetArrayViewFromImage(moved))  # [I, J, K]
    result = np.zeros(grid.size, dtype=np.uint8)
    # Background wins with more than half, so that no class has to be compared with the sum of the others.
    best = np.full(grid.size, 0.5, dtype=np.float32)
    present = [int(number) for number in np.flatnonzero(_counts(moved)) if number not in (0, IGNORE)]
    for number in present:
        part, share = _class_share(voxels == number, native, grid)
        wins = share > best[part]
        best[part][wins] = share[wins]
        result[part][wins] = number
    for number in present:
        _keep_volume(result, number, voxels == number, native, grid)
    if (voxels == IGNORE).any():
        nearest = resample(moved, grid, sitk.sitkNearestNeighbor, outside=None)
        result[np.transpose(sitk.GetArrayViewFromImage(nearest)) == IGNORE] = IGNORE
    return result


def _class_share(mask: np.ndarray, native: Geometry, grid: Geometry) -> tuple[tuple[slice, ...], np.ndarray]:
    """The share (0-1) of a class in the voxels of `grid`: where these lie, and [I, J, K]."""
    margin = 2 + math.ceil(3 * max(new / old for new, old in zip(grid.spacing, native.spacing, strict=True)))
    box = bounding_box(mask, margin)
    assert box is not None
    cut = np.ascontiguousarray(np.transpose(mask[tuple(slice(low, high) for low, high in box)]), dtype=np.float32)
    image = sitk.GetImageFromArray(cut)
    native.part([low for low, _ in box], [high - low for low, high in box]).place(image)
    part = covered(box, native, grid)
    target = grid.part([low for low, _ in part], [high - low for low, high in part])
    share = sitk.GetArrayFromImage(resample(smoothed(image, grid), target, outside=None))
    return tuple(slice(low, high) for low, high in part), np.transpose(share)


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


def _counts(label: sitk.Image) -> np.ndarray:
    counts = np.zeros(256, dtype=np.int64)
    for slab in sitk.GetArrayViewFromImage(label):
        counts += np.bincount(slab.ravel(), minlength=256)
    return counts
