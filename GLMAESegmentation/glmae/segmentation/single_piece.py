"""Post-processing: a structure that is one piece in every training case is one piece in a result.

A network that was trained on few scans marks places far from a structure, too, which look like it from near.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product

import numpy as np
from scipy import ndimage

from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.structures import connected_parts

# The parts of a larger box are numbered in blocks of voxels: the numbering needs 4 bytes a block.
_PARTS_VOXELS = 2**25


def single_pieces(fingerprint: Fingerprint, classes: ClassTable) -> list[int]:
    """The classes, 1..n, that were one piece wherever a training case was labeled all over.

    Of a class that was only drawn in part nothing is known.
    """
    known = {size.name: size.spread for size in fingerprint.classes}
    spreads = [known.get(name) for name in classes.names]
    return [number for number, spread in enumerate(spreads, 1) if spread is not None and spread.pieces == 1]


def keep_largest_parts(numbers: np.ndarray, single: Iterable[int]) -> dict[int, float]:
    """Make background of all but the largest part of some classes.

    Parts are connected by faces, edges or corners. A class whose box has more than 2^25 voxels is divided into blocks
    (of 2 x 2 x 2 voxels up to 2^28), and parts whose blocks touch count as one.

    Args:
        numbers: uint8 [K, J, I], 0..n; changed in place.
        single: the classes, see `single_pieces`.

    Returns:
        Class -> share of its voxels that was left out, for those of which something was.
    """
    single = list(single)
    if not single:
        return {}
    boxes = ndimage.find_objects(numbers, max_label=max(single))
    shares = {number: _keep_largest(numbers[box], number) for number in single if (box := boxes[number - 1])}
    return {number: share for number, share in shares.items() if share}


def _keep_largest(numbers: np.ndarray, number: int) -> float:
    """In the box of one class; returns the share that is left out."""
    step = max(1, math.ceil((numbers.size / _PARTS_VOXELS) ** (1 / 3)))
    # The first, second, ... voxel of each block; at the far sides blocks may have fewer.
    views = [numbers[tuple(slice(start, None, step) for start in starts)] for starts in product(range(step), repeat=3)]
    counts = np.zeros(views[0].shape, dtype=np.uint16)
    for view in views:
        _corner(counts, view)[...] += view == number
    parts, found = connected_parts(counts)
    if len(found) == 1:
        return 0.0
    inside = counts > 0
    sizes = np.bincount(parts[inside], weights=counts[inside])
    largest = parts == sizes.argmax()
    for view in views:
        view[(view == number) & ~_corner(largest, view)] = 0
    return float(1 - sizes.max() / sizes.sum())


def _corner(blocks: np.ndarray, view: np.ndarray) -> np.ndarray:
    first, second, third = view.shape
    return blocks[:first, :second, :third]
