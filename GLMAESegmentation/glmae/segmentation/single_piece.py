"""Post-processing: a structure that is one piece in every training case is one piece in a result.

A network that was trained on few scans marks places far from a structure, too, which look like it from near.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
from scipy import ndimage

from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.geometry import Geometry
from ..scans.structures import connected_parts

# The parts of a larger box are numbered in blocks of voxels: the numbering needs 4 bytes a block.
_PARTS_VOXELS = 2**25

# In a box [K, J, I] of a scan's voxels.
Certainty = Callable[[tuple[slice, ...]], np.ndarray]


def single_pieces(fingerprint: Fingerprint, classes: ClassTable) -> list[int]:
    """The classes, 1..n, that were one piece wherever a training case was labeled all over.

    Of a class that was only drawn in part nothing is known.
    """
    known = {size.name: size.spread for size in fingerprint.classes}
    spreads = [known.get(name) for name in classes.names]
    return [number for number, spread in enumerate(spreads, 1) if spread is not None and spread.pieces == 1]


def certainty_of(largest: np.ndarray) -> np.ndarray:
    """How much more likely than not a class is right that has this probability, 0-1: uint8, 0 to 100."""
    return (200 * largest.clip(0.5, 1) - 100).round().astype(np.uint8)


def certainty_on(native: Geometry, grid: Geometry, certainty: np.ndarray) -> Certainty:
    """Looks up the certainty in boxes [K, J, I] of a scan's voxels, at the nearest voxel of the prepared scan.

    Args:
        native: of the scan; the axes of `grid`, in the same order.
        grid: of the prepared scan.
        certainty: [I, J, K], see `certainty_of`.
    """
    first, last = grid.index(native.point(np.array([(0, 0, 0), np.array(native.size) - 1])))
    places = [
        np.linspace(first[axis], last[axis], native.size[axis]).round().clip(0, grid.size[axis] - 1).astype(int)
        for axis in range(3)
    ]

    def look_up(box: tuple[slice, ...]) -> np.ndarray:
        return certainty[np.ix_(*(axis[part] for axis, part in zip(places, reversed(box), strict=True)))].transpose()

    return look_up


def keep_largest_parts(
    numbers: np.ndarray, single: Iterable[int], certainty: Certainty | None = None
) -> dict[int, float]:
    """Make background of all but the largest part of some classes.

    Parts are connected by faces, edges or corners. A class whose box has more than 2^25 voxels is divided into blocks
    (of 2 x 2 x 2 voxels up to 2^28), and parts whose blocks touch count as one.

    Args:
        numbers: uint8 [K, J, I], 0..n; changed in place.
        single: the classes, see `single_pieces`.
        certainty: by which voxels count: a small part of which the network is sure is larger than a large one that it
            half believes in. None: they count alike.

    Returns:
        Class -> share of its voxels that was left out, for those of which something was.
    """
    single = list(single)
    if not single:
        return {}
    boxes = ndimage.find_objects(numbers, max_label=max(single))
    shares = {}
    for number in single:
        if box := boxes[number - 1]:
            shares[number] = _keep_largest(numbers[box], number, None if certainty is None else certainty(box))
    return {number: share for number, share in shares.items() if share}


def _keep_largest(numbers: np.ndarray, number: int, certainty: np.ndarray | None) -> float:
    """In the box of one class; returns the share that is left out."""
    step = max(1, math.ceil((numbers.size / _PARTS_VOXELS) ** (1 / 3)))
    # The first, second, ... voxel of each block; at the far sides blocks may have fewer.
    starts = product(range(step), repeat=3)
    places = [tuple(slice(start, None, step) for start in each) for each in starts]
    counts, weights = np.zeros((2, *numbers[places[0]].shape), dtype=np.uint16)
    for place in places:
        there = numbers[place] == number
        _corner(counts, there)[...] += there
        _corner(weights, there)[...] += there if certainty is None else there * certainty[place]
    parts, found = connected_parts(counts)
    if len(found) == 1:
        return 0.0
    inside = counts > 0
    sizes = np.bincount(parts[inside], weights=counts[inside])
    # Where the network is sure of nothing, the number of voxels decides.
    largest = (np.bincount(parts[inside], weights=weights[inside]) + 1e-6 * sizes).argmax()
    for place in places:
        view = numbers[place]
        view[(view == number) & (_corner(parts, view) != largest)] = 0
    return float(1 - sizes[largest] / sizes.sum())


def _corner(blocks: np.ndarray, view: np.ndarray) -> np.ndarray:
    first, second, third = view.shape
    return blocks[:first, :second, :third]
