"""What the structures in a label map are like: volume, place, pieces, brightness. Measured alike in the labels that a
model was trained on and in its results, so that the two can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..json_record import JsonRecord
from .common_axes import CommonAxes
from .geometry import Geometry, Vector
from .normalization import Brightness

# Parts below this share of a structure are specks and do not count as pieces.
_SPECK = 0.01
# A structure reaches the border where so many of its voxels, and this share of a section through a cube of its volume,
# lie in the outermost layer.
_BORDER_VOXELS, _BORDER_SHARE = 4, 0.1
# Pieces of a larger box are counted on every second, third, ... voxel: the numbering needs 4 bytes a voxel.
_PIECES_VOXELS = 2**25
_USUAL_CASES = 2
# The sides of a scan at the low and at the high end of its axes, once these are brought to the common order.
_LOW, _HIGH = "LPI", "RAS"
RAS_ORDER = CommonAxes()


def voxel_counts(numbers: np.ndarray) -> np.ndarray:
    """How many voxels of a uint8 map [K, J, I] have each of the values 0..255, [256]."""
    counts = np.zeros(256, dtype=np.int64)
    for plane in numbers:  # all at once would need 8 bytes a voxel
        counts += np.bincount(plane.ravel(), minlength=256)
    return counts


def connected_parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts that are connected by faces, edges or corners.

    Args:
        mask: [K, J, I], any type; not 0 inside.

    Returns:
        The number of the part in each voxel, 0 outside, and the voxels of parts 1, 2, ...
    """
    from scipy import ndimage  # here, because Slicer's own process reads fingerprints and may lack scipy

    numbers, count = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    return numbers, np.bincount(numbers.ravel(), minlength=count + 1)[1:]


@dataclass(frozen=True)
class Structure:
    """One class in one scan.

    Attributes:
        volume: mm3.
        place: its center along the common axes (R, A, S unless scans lie askew), as a share (0-1) of the scan's box.
        pieces: connected parts (by faces, edges or corners) of at least 1 % of its voxels.
        largest: share of its voxels in the largest part.
        borders: the sides of the scan that it reaches: "L", "R", "P", "A", "I", "S".
        means: mean value in each channel.
    """

    volume: float
    place: Vector
    pieces: int
    largest: float
    borders: frozenset[str]
    means: tuple[float, ...]

    def reordered(self, order: np.ndarray) -> Structure:
        """Seen along axes in another order, [3 old, 3 new] one of `geometry.ORDERS`."""
        places = (order > 0).T @ self.place + (order < 0).T @ (1 - np.array(self.place))
        ends = {}
        for old, new in np.argwhere(order):
            low, high = _LOW[new], _HIGH[new]
            ends[_LOW[old]], ends[_HIGH[old]] = (low, high) if order[old, new] > 0 else (high, low)
        first, second, third = (float(place) for place in places)
        return replace(self, place=(first, second, third), borders=frozenset(ends[side] for side in self.borders))


@dataclass(frozen=True)
class Spread(JsonRecord):
    """Mean and standard deviation of something over the training cases."""

    mean: float
    std: float
    cases: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Over the cases; the deviation of a single one is 0."""
        return Spread(round(float(np.mean(values)), 4), round(float(np.std(values)), 4), len(values))

    def distance(self, value: float, usual: float) -> float:
        """How many deviations a new case with this value is off the mean.

        Few cases show little of the spread, so the `usual` deviation counts as much as two of them; and the mean of few
        is itself off by a share of it.
        """
        variance = (_USUAL_CASES * usual**2 + self.cases * self.std**2) / (_USUAL_CASES + self.cases - 1)
        return abs(value - self.mean) / math.sqrt(variance * (1 + 1 / self.cases))


@dataclass(frozen=True)
class StructureSpread(JsonRecord):
    """One class over the training cases that hold it whole. It names no case.

    Attributes:
        log_volume: natural logarithm of the volume in mm3.
        place: see `Structure`, along R, A, S.
        pieces: the most in any case.
        largest: the smallest in any case.
        borders: the sides of the scan that it reached in some case, such as "IS".
        brightness: mean value in each channel: Hounsfield units, else on the scan's own scale.
    """

    log_volume: Spread
    place: tuple[Spread, Spread, Spread]
    pieces: int
    largest: float
    borders: str
    brightness: tuple[Spread, ...]

    @staticmethod
    def over(
        structures: Sequence[Structure], scans: Sequence[Sequence[Brightness]], modalities: Sequence[str]
    ) -> StructureSpread:
        """Gather one class over some scans.

        Args:
            structures: the class in each of the scans.
            scans: brightness of each channel, for each of the scans.
            modalities: of the channels.
        """
        right, front, top = (Spread.of([found.place[axis] for found in structures]) for axis in range(3))
        return StructureSpread(
            log_volume=Spread.of([math.log(found.volume) for found in structures]),
            place=(right, front, top),
            pieces=max(found.pieces for found in structures),
            largest=round(min(found.largest for found in structures), 4),
            borders="".join(sorted(frozenset.union(*(found.borders for found in structures)))),
            brightness=tuple(
                Spread.of(
                    [
                        scan[channel].scaled(found.means[channel], modality)
                        for found, scan in zip(structures, scans, strict=True)
                    ]
                )
                for channel, modality in enumerate(modalities)
            ),
        )


def measure_structures(
    label: sitk.Image, images: Sequence[sitk.Image], values: Sequence[int], axes: CommonAxes = RAS_ORDER
) -> dict[int, Structure]:
    """The structures of a label map.

    Args:
        label: label map on the grid of the scan.
        axes: along which places are told; the nearest RAS order where it is not said.

    Returns:
        Value -> structure, for the values that have voxels.
    """
    from scipy import ndimage  # here, because Slicer's own process reads fingerprints and may lack scipy

    grid = Geometry.of(label)
    order = axes.order(grid)
    numbers = sitk.GetArrayViewFromImage(label)  # [K, J, I]
    boxes = ndimage.find_objects(numbers, max_label=max(values, default=0))
    found = {}
    for value in values:
        box = boxes[value - 1]
        if box is not None:
            found[value] = _structure(numbers, value, box, grid, images).reordered(order)
    return found


def _structure(
    numbers: np.ndarray, value: int, box: tuple[slice, ...], grid: Geometry, images: Sequence[sitk.Image]
) -> Structure:
    """Along the axes of the scan as it is stored."""
    mask = numbers[box] == value  # [K, J, I]
    count = int(np.count_nonzero(mask))
    profiles = [mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) for axis in (2, 1, 0)]
    starts = [part.start for part in reversed(box)]
    center = [
        start + float(np.arange(len(profile)) @ profile) / count
        for start, profile in zip(starts, profiles, strict=True)
    ]
    first, second, third = ((at + 0.5) / size for at, size in zip(center, grid.size, strict=True))
    pieces, largest = _pieces(mask)
    means = [float(sitk.GetArrayViewFromImage(image)[box][mask].mean(dtype=np.float64)) for image in images]
    return Structure(
        volume=count * grid.voxel_volume,
        place=(first, second, third),
        pieces=pieces,
        largest=largest,
        borders=_borders(starts, profiles, count, grid),
        means=tuple(means),
    )


def _pieces(mask: np.ndarray) -> tuple[int, float]:
    """Number of pieces, and the share of the largest."""
    step = math.ceil((mask.size / _PIECES_VOXELS) ** (1 / 3))
    coarse = mask[::step, ::step, ::step]
    _, sizes = connected_parts(coarse)
    if not len(sizes):  # thinner than the steps
        return 1, 1.0
    return max(1, int(np.count_nonzero(sizes >= _SPECK * sizes.sum()))), float(sizes.max() / sizes.sum())


def _borders(starts: Sequence[int], profiles: Sequence[np.ndarray], count: int, grid: Geometry) -> frozenset[str]:
    """The profiles are numbers of voxels along I, J, K, within the structure's box."""
    least = max(_BORDER_VOXELS, _BORDER_SHARE * count ** (2 / 3))
    sides = set()
    for axis in range(3):
        if starts[axis] == 0 and profiles[axis][0] >= least:
            sides.add(_LOW[axis])
        if starts[axis] + len(profiles[axis]) == grid.size[axis] and profiles[axis][-1] >= least:
            sides.add(_HIGH[axis])
    return frozenset(sides)
