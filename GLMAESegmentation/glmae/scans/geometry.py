"""Where the voxels of a scan lie: size, spacing, origin and direction, and moving images from one grid to another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..json_record import JsonRecord

# Corners that agree within this share of a voxel are the same: NIfTI stores its matrix in single precision.
SAME_GRID_TOLERANCE = 0.05

# Every order of the axes of a scan: swapped and reversed, so that no voxel changes, [48, 3 old, 3 new] of -1, 0 and 1.
# `direction @ ORDERS[n]` is the direction after it.
ORDERS = np.array(
    [
        np.eye(3)[:, axes] * signs
        for axes in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
)

Vector = tuple[float, float, float]
# First and one past the last voxel along I, J, K.
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Geometry(JsonRecord):
    """The grid of a 3D image, in SimpleITK's conventions.

    Attributes:
        size: voxels along the index axes I, J, K.
        spacing: distance of neighboring voxel centers along I, J, K, mm.
        origin: center of voxel (0, 0, 0), LPS mm.
        direction: 3x3 matrix, row by row; its columns are the unit vectors of I, J, K in LPS.
    """

    size: tuple[int, int, int]
    spacing: Vector
    origin: Vector = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @staticmethod
    def of(image: sitk.Image) -> Geometry:
        """The grid of a 3D image."""
        return Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @staticmethod
    def from_arrays(size: Any, spacing: Any, origin: Any, direction: Any) -> Geometry:
        """The grid of numbers in any arrays or sequences."""
        return Geometry(
            _triple(int(n) for n in size),
            _triple(float(s) for s in spacing),
            _triple(float(x) for x in origin),
            tuple(float(x) + 0.0 for x in np.asarray(direction).reshape(-1)),
        )

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return self.size[0] * self.size[1] * self.size[2]

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel, mm3."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2]

    @property
    def orientation(self) -> str:
        """What I, J, K point to (nearest axes), such as "RAS" or "LPS"."""
        return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.direction))

    def point(self, index: Sequence[float] | np.ndarray) -> np.ndarray:
        """LPS position (mm) of a continuous voxel index (I, J, K), or of several, [n, 3]."""
        return np.asarray(self.origin) + (self._matrix() @ (np.asarray(index, dtype=float) * self.spacing).T).T

    def index(self, point: Sequence[float] | np.ndarray) -> np.ndarray:
        """Continuous voxel index (I, J, K) of an LPS position (mm), or of several, [n, 3]; the inverse of `point`."""
        offset = np.asarray(point, dtype=float) - np.asarray(self.origin)
        return np.linalg.solve(self._matrix(), offset.T).T / np.asarray(self.spacing)

    def corners(self) -> np.ndarray:
        """The 8 corners of the box that the voxels fill (not their centers), LPS mm, [8, 3]; I varies slowest."""
        edges = [(-0.5, size - 0.5) for size in self.size]
        return self.point(np.array(list(itertools.product(*edges))))

    def distance(self, other: Geometry) -> float:
        """The largest distance of corresponding box corners, mm, whatever the order of axes."""
        difference = self.along(other.direction).corners() - other.corners()
        return float(np.linalg.norm(difference, axis=1).max())

    def same_grid(self, other: Geometry, tolerance: float = SAME_GRID_TOLERANCE) -> bool:
        """Whether each voxel (i, j, k) of both lies at the same place, within `tolerance` of the finest spacing."""
        if self.size != other.size:
            return False
        difference = np.linalg.norm(self.corners() - other.corners(), axis=1).max()
        return bool(difference <= tolerance * min(*self.spacing, *other.spacing))

    def along(self, direction: Sequence[float] | np.ndarray) -> Geometry:
        """The same voxels, their axes as near as can be to those of another grid's direction."""
        return self.reordered(self.order(direction))

    def order(self, direction: Sequence[float] | np.ndarray) -> np.ndarray:
        """The order of axes that `along` takes, one of `ORDERS`."""
        target = np.asarray(direction, dtype=float).reshape(3, 3)
        return np.asarray(ORDERS[closeness(self._matrix()[None], target)[0].argmax()])

    def reordered(self, order: np.ndarray) -> Geometry:
        """The same voxels, axes swapped and reversed as an order [3 old, 3 new] of `ORDERS` says."""
        axes = np.abs(order).argmax(axis=0)
        corner = np.where(order.sum(axis=1) < 0, np.array(self.size) - 1, 0)
        size, spacing = [self.size[a] for a in axes], [self.spacing[a] for a in axes]
        return Geometry.from_arrays(size, spacing, self.point(corner), self._matrix() @ order)

    def part(self, start: Sequence[int], size: Sequence[int]) -> Geometry:
        """The box of `size` voxels that begins at voxel `start`; both in I, J, K."""
        return Geometry.from_arrays(size, self.spacing, self.point(start), self.direction)

    def within(self, box: Box) -> Geometry:
        """The grid of the voxels in a box."""
        return self.part([low for low, _ in box], [high - low for low, high in box])

    def resized(self, spacing: Sequence[float]) -> Geometry:
        """A grid of another spacing (mm) over the same box, with the same center; at least one voxel along an axis."""
        extent = [n * old for n, old in zip(self.size, self.spacing, strict=True)]
        size = [max(1, round(length / new)) for length, new in zip(extent, spacing, strict=True)]
        first = [
            0.0 if n == m and new == old else (n - 1) / 2 - (m - 1) / 2 * new / old
            for n, m, old, new in zip(self.size, size, self.spacing, spacing, strict=True)
        ]
        return Geometry.from_arrays(size, spacing, self.point(first), self.direction)

    def image(self, voxels: np.ndarray) -> sitk.Image:
        """The image on this grid of voxels [K, J, I], or [K, J, I, components]."""
        image = sitk.GetImageFromArray(voxels, isVector=voxels.ndim > 3)
        self.place(image)
        return image

    def place(self, image: sitk.Image) -> None:
        """Give `image`, of this size, exactly this spacing, origin and direction."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)

    def describe(self) -> str:
        """Size and spacing for people: `512x512x60 voxels of 0.7x0.7x5 mm`."""
        size = "x".join(str(n) for n in self.size)
        return f"{size} voxels of {'x'.join(f'{s:.3g}' for s in self.spacing)} mm"

    def _matrix(self) -> np.ndarray:
        return np.asarray(self.direction, dtype=float).reshape(3, 3)


def closeness(directions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How near each order of the axes of some scans comes to other axes.

    Args:
        directions: of the scans, [m, 3, 3]; columns are unit vectors of I, J, K.
        target: the same of the axes to come to, [3, 3].

    Returns:
        [m, 48]: the sum of the cosines between axes, 3 where they are the same, rounded, so that ties do not depend on
        the computer. The largest is 1.91 at least; that of an order which would mirror the scan is 1 at most, as of any
        reflection.
    """
    cosines = np.swapaxes(directions, 1, 2) @ target  # [m, 3 old, 3 new]
    return np.asarray(np.einsum("mij,nij->mn", cosines, ORDERS).round(6))


def slices(box: Box) -> tuple[slice, ...]:
    """What a box is of an array [I, J, K]."""
    return tuple(slice(low, high) for low, high in box)


def reordered(image: sitk.Image, grid: Geometry) -> sitk.Image:
    """The voxels of an image in the order of a grid of the same axes, such as `Geometry.along` gives; it lies there."""
    order = Geometry.of(image).order(grid.direction)
    axes, flips = np.abs(order).argmax(axis=0).tolist(), (order.sum(axis=0) < 0).tolist()
    if axes != [0, 1, 2]:
        image = sitk.PermuteAxes(image, axes)
    image = sitk.Flip(image, flips, False) if any(flips) else sitk.Image(image)
    if Geometry.of(image) != grid:
        grid.place(image)
    return image


def _triple(values: Any) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third
