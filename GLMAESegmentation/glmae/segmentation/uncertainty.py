"""How sure a model is of its result: 1 - (largest probability), from 0 where it is certain to nearly 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..scans.geometry import Geometry
from ..scans.resampling import resample


class Uncertainty:
    """Gathered from the prepared scan, slab by slab.

    Args:
        keep: whether the uncertainty of each voxel is kept for `on`.
    """

    def __init__(self, grid: Geometry, classes: int, keep: bool) -> None:
        self._grid = grid
        self._counts, self._sums = np.zeros(classes + 1), np.zeros(classes + 1)
        self._percent = np.zeros(tuple(reversed(grid.size)), dtype=np.uint8) if keep else None  # [K, J, I]

    def add(self, start: int, numbers: np.ndarray, largest: np.ndarray) -> None:
        """Take in the planes of the prepared scan from `start` on.

        Args:
            start: first plane, along K.
            numbers: class with the largest probability, 0..n, [I, J, planes].
            largest: this probability, [I, J, planes].
        """
        flat = numbers.reshape(-1)
        self._counts += np.bincount(flat, minlength=len(self._counts))
        self._sums += np.bincount(flat, 1 - largest.reshape(-1).astype(np.float32), minlength=len(self._counts))
        if self._percent is not None:
            percent = np.clip(np.rint(100 * (1 - largest.astype(np.float32))), 0, 100)
            self._percent[start : start + numbers.shape[2]] = percent.transpose()

    def means(self, values: Sequence[int]) -> dict[int, float]:
        """Label value -> mean over the voxels of the class, for the classes that have voxels.

        Args:
            values: label values of the classes 1..n.
        """
        return {value: float(self._sums[c] / self._counts[c]) for c, value in enumerate(values, 1) if self._counts[c]}

    def on(self, source: Geometry) -> sitk.Image | None:
        """The uncertainty of each voxel of the scan in percent, UInt8; None if it was not kept."""
        if self._percent is None:
            return None
        return sitk.Cast(resample(self._grid.image(self._percent), source, outside=None), sitk.sitkUInt8)
