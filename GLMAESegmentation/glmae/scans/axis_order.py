"""Orders of a scan's axes: swapped and reversed, so that no voxel changes, and never mirrored: left stays left."""

from __future__ import annotations

import itertools

import numpy as np

# Every order of three axes, [48, 3 old, 3 new] of -1, 0 and 1: `direction @ ORDERS[n]` is the direction after it.
ORDERS = np.array(
    [
        np.eye(3)[:, axes] * signs
        for axes in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
)


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
