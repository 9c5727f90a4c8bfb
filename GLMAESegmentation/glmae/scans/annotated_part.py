"""Which part of a scan was labeled at all: as its region says, or a guess from the shape of its labels.

A guess is for people to confirm; nothing follows from it otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .classes import IGNORE
from .common_axes import CommonAxes
from .geometry import Geometry, slices
from .image import load
from .region import Region
from .resampling import resample

# A structure that is this many times wider than its slice is thick was cut by the choice of slices, not by anatomy.
_FLAT = 3.0
# A structure rounds off towards its ends; one that ends with this share of its largest cross-section was cut off.
_ABRUPT = 0.7
_ABRUPT_SLICES = 10
# Fewer scans do not tell that labels end so by convention.
_FEWEST_SCANS = 3


def known_part(region: Region, case: str, grid: Geometry) -> np.ndarray:
    """Where the label was drawn: bool [K, J, I]. Not for a region that is `labeled`: its label tells.

    Raises:
        ScanError: the region lies outside the image, or the mask cannot be used.
    """
    if region.mask is not None:
        return _mask(region.mask, case, grid)
    known = np.zeros(tuple(reversed(grid.size)), dtype=bool)
    if region.axis is not None:
        size = grid.size[region.axis]
        beyond = [index for index in region.slices if index >= size]
        if beyond:
            raise ScanError(
                f"case {case}: `region` names slice {beyond[0]}, but the image has {size}; correct classes.json."
            )
        np.moveaxis(known, 2 - region.axis, 0)[list(region.slices)] = True
    elif region.box is not None:
        for (_, high), size in zip(region.box, grid.size, strict=True):
            if high > size:
                raise ScanError(
                    f"case {case}: the box of `region` ends at {high}, but the image has {size} voxels there; "
                    "correct classes.json."
                )
        known[slices(region.box[::-1])] = True
    return known


def guess_region(label: sitk.Image) -> Region | None:
    """The slices, or the box, that seem to have been labeled; None where the labels look complete.

    Slices: labels lie in single slices along one axis with empty ones between them, and are much wider than these are
    thick. Box: labels end abruptly along an axis, inside the image.

    Args:
        label: 0 background, 1..n classes, 255 unknown, on the grid of the image.
    """
    numbers = sitk.GetArrayViewFromImage(label)
    drawn = (numbers > 0) & (numbers != IGNORE)  # [K, J, I]
    areas = [drawn.sum(axis=tuple(a for a in range(3) if a != 2 - axis)) for axis in range(3)]
    if not areas[0].any():
        return None
    spacing = label.GetSpacing()
    for axis in (2, 1, 0):  # K first: most are drawn slice by slice in the order of the file
        slices = np.flatnonzero(areas[axis])
        neighbors = np.count_nonzero(np.diff(slices) == 1)
        widths = [np.ptp(np.flatnonzero(areas[other])) * spacing[other] for other in range(3) if other != axis]
        if neighbors <= 0.1 * len(slices) and min(widths) >= _FLAT * spacing[axis]:
            return Region(axis=axis, slices=tuple(int(index) for index in slices))
    box = [_ends(area) for area in areas]
    if all(box[axis] == (0, len(areas[axis])) for axis in range(3)):
        return None
    return Region(box=tuple(box))


def without_usual_ends(guesses: Sequence[Region | None], grids: Sequence[Geometry]) -> list[Region | None]:
    """The guesses for the scans of one set, but for the ends at which most of the labels end abruptly.

    Those are drawn so by convention, as ventricles are to their base.

    Args:
        guesses: see `guess_region`; one a scan.
        grids: of the scans.
    """
    if len(guesses) < _FEWEST_SCANS:
        return list(guesses)
    axes = CommonAxes.of(grids)
    orders = [axes.order(grid) for grid in grids]

    def common(axis: int, side: int, order: np.ndarray) -> tuple[int, int]:
        """One end, -1 or 1, of an axis of a scan, on the axes of the set."""
        new = int(np.abs(order[axis]).argmax())
        return new, side * int(order[axis, new])

    cut = [
        {
            common(axis, side, order): (axis, side)
            for axis, (low, high) in enumerate(guess.box)
            for side, inside in ((-1, low > 0), (1, high < grid.size[axis]))
            if inside
        }
        if guess is not None and guess.box is not None
        else {}
        for guess, grid, order in zip(guesses, grids, orders, strict=True)
    ]
    times = Counter(end for ends in cut for end in ends)
    usual = {end for end, count in times.items() if count >= _FEWEST_SCANS and 2 * count > len(guesses)}
    kept: list[Region | None] = []
    for guess, grid, ends in zip(guesses, grids, cut, strict=True):
        if guess is not None and guess.box is not None and usual & set(ends):
            box = [list(side) for side in guess.box]
            for axis, side in (ends[end] for end in usual & set(ends)):
                box[axis][int(side > 0)] = 0 if side < 0 else grid.size[axis]
            whole = all(side == [0, size] for side, size in zip(box, grid.size, strict=True))
            guess = None if whole else replace(guess, box=tuple((low, high) for low, high in box))
        kept.append(guess)
    return kept


def _ends(area: np.ndarray) -> tuple[int, int]:
    """Where labels end abruptly along an axis; the image's own end where they do not."""
    slices = np.flatnonzero(area)
    low, high = 0, len(area)
    if len(slices) >= _ABRUPT_SLICES:
        enough = _ABRUPT * area.max()
        low = int(slices[0]) if area[slices[0]] >= enough else low
        high = int(slices[-1]) + 1 if area[slices[-1]] >= enough else high
    return low, high


def _mask(file: Path, case: str, grid: Geometry) -> np.ndarray:
    image = load(file)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ScanError(f"{file} (region of case {case}) has several values a voxel; give a plain mask.")
    here = Geometry.of(image)
    if not here.same_grid(grid):
        if here.distance(grid) > max(*here.spacing, *grid.spacing):
            raise ScanError(
                f"{file} ({here.describe()}) does not lie where the image of case {case} does ({grid.describe()}); "
                "draw the mask on that image."
            )
        image = resample(image, grid, sitk.sitkNearestNeighbor)
    return np.asarray(sitk.GetArrayViewFromImage(image)) != 0
