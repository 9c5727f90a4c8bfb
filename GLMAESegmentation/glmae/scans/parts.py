"""The voxels and the connected parts of structures in label maps."""

from __future__ import annotations

import numpy as np


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
