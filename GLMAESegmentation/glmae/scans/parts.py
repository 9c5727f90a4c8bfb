"""The connected parts of a structure."""

from __future__ import annotations

import numpy as np


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
