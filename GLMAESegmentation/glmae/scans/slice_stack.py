"""Slices in space: their order along the normal, and whether they make one even stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ScanError
from .geometry import Geometry

# Positions are written with few digits; a missing slice changes a distance by far more.
_UNEVEN = 0.05
_SAME_PLACE = 1e-3  # mm
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3  # of the spacing


def stack_order(
    name: str,
    positions: np.ndarray,
    orientations: np.ndarray,
    spacings: np.ndarray,
    sources: Sequence[tuple[str, str]] = (),
    kind: str = "slice",
) -> np.ndarray:
    """The order of slices along their normal, after checking that they make up a regular grid.

    Args:
        positions: centers of the first voxels, LPS mm, [n, 3].
        orientations: unit vectors along rows (I) and columns (J), LPS, [n, 6].
        spacings: between rows (J) and between columns (I), mm, [n, 2].
        sources: of each slice its identifier, which its copies share, and its file, for messages.
        kind: what a slice is called in messages.

    Raises:
        ScanError: the slices have no size, differ in size or direction, are missing or doubled, or lie aslant.
    """
    again = "export the series again"
    if spacings.min() <= 0:
        raise ScanError(f"{name} has no pixel spacing, so its size in mm is not known; {again} as CT or MR images.")
    if np.abs(spacings - spacings[0]).max() > _SAME_SPACING * spacings[0].max():
        raise ScanError(f"{name} has {kind}s of different pixel spacing; give {kind}s of one spacing only.")
    if np.abs(orientations - orientations[0]).max() > _SAME_DIRECTION:
        raise ScanError(f"{name} has {kind}s of different directions (a localizer?); give parallel {kind}s only.")
    row, column = orientations[0][:3], orientations[0][3:]
    if np.abs(np.array([row @ row - 1, column @ column - 1, row @ column])).max() > 0.01:
        raise ScanError(f"{name} has {kind}s whose rows and columns are not at right angles; {again}.")
    normal = np.cross(row, column)
    order = np.argsort(positions @ normal, kind="stable")
    if len(order) < 2:
        return order
    steps = np.diff(positions[order], axis=0)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    if gaps.min() < _SAME_PLACE:
        for at in np.flatnonzero(gaps < _SAME_PLACE) if sources else ():
            (one, first), (two, second) = sorted((sources[i] for i in order[at : at + 2]), key=lambda s: len(s[1]))
            if one == two:
                raise ScanError(f"{name}: {second} is a copy of {first}; remove the copy.")
        raise ScanError(f"{name} has two {kind}s at one place (several time points?); give one volume only.")
    if np.abs(gaps - usual).max() > _UNEVEN * usual:
        worst = int(np.argmax(np.abs(gaps - usual)))
        raise ScanError(
            f"{name} has unevenly spaced {kind}s: {gaps[worst]:.2f} mm after {kind} {worst + 1} of {len(order)}, "
            f"{usual:.2f} mm elsewhere; add the missing {kind}s or {again}."
        )
    shift = np.linalg.norm(steps - np.outer(gaps, normal), axis=1).max()
    if shift > _UNEVEN * usual:
        raise ScanError(
            f"{name} was scanned with a tilted gantry; load it in Slicer, harden its transform and export the volume."
        )
    return order


def stack_grid(
    size: tuple[int, int], positions: np.ndarray, orientation: np.ndarray, spacing: np.ndarray, thickness: float
) -> Geometry:
    """The grid of ordered slices.

    Args:
        size: voxels along I and J.
        positions: see `stack_order`, in that order.
        orientation: of all slices, [6].
        spacing: of all slices, between rows and between columns.
        thickness: mm along K where there is one slice.
    """
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    gap = float((positions[-1] - positions[0]) @ normal) / (len(positions) - 1) if len(positions) > 1 else thickness
    axes = np.stack([row, column, normal], axis=1)
    return Geometry.from_arrays((*size, len(positions)), (spacing[1], spacing[0], gap), positions[0], axes)
