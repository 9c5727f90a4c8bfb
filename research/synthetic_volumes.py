"""Scans that are made up on the fly: tied to no anatomy and no modality, and free of anybody's rights.

Each volume is a random anatomy in a random appearance. A volume can be had in two appearances, so that teacher and
student may see the same anatomy differently (the idea of anatomix, arXiv 2411.02372).
"""

from __future__ import annotations

import numpy as np

from .synthetic_anatomy import Anatomy, random_anatomy
from .synthetic_appearance import render

# Purposes of random streams.
ANATOMY, APPEARANCE = 0, 1
LEAST_SIDE = 16


class SyntheticScans:
    """Synthetic scans in the shape of prepared ones; volume `index` is a function of (seed, index) only.

    Nothing is kept: a volume is made anew each time it is asked for.

    Args:
        count: how many there are.
        side: voxels along each axis, 16 or more.
        seed: of all of them.

    Raises:
        ValueError: a volume of this size cannot hold an anatomy, or there would be none.
    """

    channels = 1

    def __init__(self, count: int, side: int = 96, seed: int = 0) -> None:
        if count < 1 or side < LEAST_SIDE:
            raise ValueError(f"{count} synthetic scans of side {side}: at least 1 of {LEAST_SIDE} voxels are needed")
        self._count, self._side, self._seed = count, side, seed

    def __len__(self) -> int:
        return self._count

    def image(self, index: int, /) -> np.ndarray:
        """Scan `index` in its first appearance, float32 [1, I, J, K]; mean 0 and deviation 1 over the body."""
        return self._rendered(self.anatomy(index), index, 0)

    def appearances(self, index: int, /) -> tuple[np.ndarray, np.ndarray]:
        """Two renderings of the anatomy of scan `index`, [1, I, J, K] both; the first equals `image(index)`."""
        anatomy = self.anatomy(index)
        return self._rendered(anatomy, index, 0), self._rendered(anatomy, index, 1)

    def anatomy(self, index: int, /) -> Anatomy:
        """What scan `index` shows."""
        if not 0 <= index < self._count:
            raise IndexError(f"synthetic scan {index} of {self._count}")
        return random_anatomy(self._random(index, ANATOMY, 0), self._side)

    def _rendered(self, anatomy: Anatomy, index: int, appearance: int) -> np.ndarray:
        return render(anatomy, self._random(index, APPEARANCE, appearance))[None]

    def _random(self, index: int, purpose: int, appearance: int) -> np.random.Generator:
        return np.random.default_rng([self._seed & (2**64 - 1), index, purpose, appearance])
