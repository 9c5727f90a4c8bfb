"""A large CT made of small ones: a body of repeated tissue, in the air, of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

AIR = -1024


def write_phantom(
    path: Path,
    scans: Sequence[tuple[Path, Path]],
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    body: float = 0.4,
) -> None:
    """Write a phantom: an elliptic cylinder along the last axis, filled with the labeled parts of scans side by side.

    What air the parts hold (airways, the space in front of a face) is inside this body.

    Args:
        path: of the phantom, an uncompressed `.nrrd`.
        scans: image and label of each scan to take from, in HU.
        size: voxels along I, J, K.
        spacing: of the phantom's voxels, mm.
        body: the share of the voxels that the cylinder takes.
    """
    voxels = tiled([_labeled_part(*scan) for scan in scans], size)
    j_size, i_size = voxels.shape[1:]
    j, i = np.mgrid[:j_size, :i_size]
    distance = ((i - (i_size - 1) / 2) / i_size) ** 2 + ((j - (j_size - 1) / 2) / j_size) ** 2
    outside = np.ones(j_size * i_size, dtype=bool)
    outside[np.argsort(distance, axis=None)[: round(body * j_size * i_size)]] = False
    voxels[:, outside.reshape(j_size, i_size)] = AIR
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def tiled(parts: Sequence[np.ndarray], size: tuple[int, int, int]) -> np.ndarray:
    """Parts [K, J, I] repeated side by side, alternating, until they fill the size (I, J, K); int16 [K, J, I]."""
    smallest = [min(part.shape[axis] for part in parts) for axis in range(3)]
    parts = [part[: smallest[0], : smallest[1], : smallest[2]] for part in parts]
    counts = [-(-have // side) for have, side in zip(reversed(size), smallest, strict=True)]
    result = np.empty(tuple(reversed(size)), dtype=np.int16)
    for number, at in enumerate(np.ndindex(*counts)):
        low = [n * side for n, side in zip(at, smallest, strict=True)]
        place = tuple(slice(begin, begin + side) for begin, side in zip(low, smallest, strict=True))
        room = result[place]
        room[...] = parts[number % len(parts)][tuple(slice(0, side) for side in room.shape)]
    return result


def _labeled_part(image: Path, label: Path, margin: int = 2) -> np.ndarray:
    """The box of a scan that holds its labels, nearly all of it body: int16 [K, J, I]."""
    drawn = np.argwhere(sitk.GetArrayFromImage(sitk.ReadImage(str(label))) > 0)
    low, high = np.maximum(drawn.min(axis=0) - margin, 0), drawn.max(axis=0) + 1 + margin
    voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(image)))
    return np.asarray(voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], dtype=np.int16)
