"""One order of axes for all scans of a set, so that the same anatomy and the thick slices lie along the same one.

Scans that lie askew, such as short-axis hearts at 45 degrees, come to different orders when each goes to the nearest
right-anterior-superior one by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..json_record import JsonRecord
from .geometry import ORDERS, Geometry, closeness

RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
# Voxels so many times as long as along both other axes are thick.
THICK = 1.5
# So much closer, as a sum of cosines, may another order be before thick slices are not kept along one axis: a scan
# that lies up to 60 degrees askew keeps them there, instead of 45.
_WORTH = 2 * (math.sin(math.radians(60)) - math.cos(math.radians(60)))
_STARTS, _ROUNDS = 24, 4
# The new axis of each old one, [48, 3].
_NEW_AXES = np.abs(ORDERS).argmax(axis=2)


@dataclass(frozen=True)
class CommonAxes(JsonRecord):
    """Where I, J, K of the prepared scans of a set point.

    Attributes:
        directions: 3x3 matrix, row by row, whose columns are the unit vectors of I, J, K in LPS: the mean over the set.
        thick: the axis along which the slices are thick; None where those of no scan are.
    """

    directions: tuple[float, ...] = RAS
    thick: int | None = None

    def __post_init__(self) -> None:
        matrix = _matrix(self.directions)
        if not np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-3) or self.thick not in (None, 0, 1, 2):
            raise ValueError("the axes are none")

    @staticmethod
    def of(grids: Sequence[Geometry]) -> CommonAxes:
        """For the scans of a set: the orders in which they lie most alike, and of these the closest to RAS.

        As in k-means, each scan takes the order nearest to the mean, and the mean is taken again; from several starts.
        """
        directions = np.array([grid.direction for grid in grids]).reshape(-1, 3, 3)
        thick = np.array([_thick(grid) for grid in grids])
        starts = directions
        if len(grids) > _STARTS:
            starts = np.random.default_rng(0).choice(directions, _STARTS, replace=False)
        best, mean, axis = -math.inf, starts[0], -1
        for start in starts:
            found = _alike(directions, thick, start @ ORDERS[closeness(start[None], _matrix(RAS))[0].argmax()])
            if found[0] > best + 1e-6:
                best, mean, axis = found
        # All of them turned alike are as much alike.
        turn = int(closeness(mean[None], _matrix(RAS))[0].argmax())
        mean = mean @ ORDERS[turn]
        return CommonAxes(
            tuple(float(x) + 0.0 for x in mean.reshape(-1).round(6)), int(_NEW_AXES[turn, axis]) if axis >= 0 else None
        )

    def native(self, grid: Geometry) -> Geometry:
        """The voxels of a scan in the common order of axes."""
        return grid.reordered(self.order(grid))

    def order(self, grid: Geometry) -> np.ndarray:
        """That order, one of `geometry.ORDERS`."""
        directions, thick = _matrix(grid.direction)[None], np.array([_thick(grid)])
        axis = -1 if self.thick is None else self.thick
        return np.asarray(ORDERS[_scores(directions, thick, _matrix(self.directions), axis)[0].argmax()])

    def turned(self, grid: Geometry) -> float:
        """How far a scan still lies askew in the common order, degrees."""
        cosines = float(np.sum(_matrix(self.native(grid).direction) * _matrix(self.directions)))
        return math.degrees(math.acos(min(1.0, max(-1.0, (cosines - 1) / 2))))

    def across(self, grid: Geometry) -> bool:
        """Whether the slices of a scan are thick along another axis than those of the set."""
        own = _thick(self.native(grid))
        return own >= 0 and own != self.thick


def _matrix(directions: Sequence[float]) -> np.ndarray:
    return np.asarray(directions, dtype=float).reshape(3, 3)


def _thick(grid: Geometry) -> int:
    """The axis along which voxels are thick; -1 if there is none."""
    _, second, longest = sorted(grid.spacing)
    return grid.spacing.index(longest) if longest >= THICK * second else -1


def _scores(directions: np.ndarray, thick: np.ndarray, mean: np.ndarray, axis: int) -> np.ndarray:
    """How good each order of axes is for each scan, [m, 48]: also whether its `thick` axis becomes `axis`."""
    places = _NEW_AXES[:, thick].T  # of each one's thick axis, in each order
    kept = (places == axis) & (thick[:, None] >= 0)
    return closeness(directions, mean) + _WORTH * kept


def _alike(directions: np.ndarray, thick: np.ndarray, mean: np.ndarray) -> tuple[float, np.ndarray, int]:
    """The sum of the scores, the mean axes [3, 3] and the thick one that are reached from a first guess of the mean."""
    axis = -1
    for _ in range(_ROUNDS):
        chosen = _scores(directions, thick, mean, axis).argmax(axis=1)
        left, _, right = np.linalg.svd((directions @ ORDERS[chosen]).sum(axis=0))
        mean = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        places = _NEW_AXES[chosen[thick >= 0], thick[thick >= 0]]
        axis = int(np.bincount(places).argmax()) if len(places) else -1
    return float(_scores(directions, thick, mean, axis).max(axis=1).sum()), mean, axis
