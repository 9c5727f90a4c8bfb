"""How much memory a scan takes, told from its header, before a scan that is too large brings the computer to a halt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from ..errors import TooLargeError
from ..ram import free_ram
from .dicom import DicomSeries, read_dicom_header, series_in
from .freesurfer import is_freesurfer, read_freesurfer_header
from .geometry import Geometry
from .image import check_unit, read_header
from .preparation import Preparation, prepared_grid

# The network, its libraries, and the windows in work.
_BASE = 1_500_000_000


def check_memory(
    name: str,
    images: Sequence[Path | DicomSeries],
    preparation: Preparation,
    classes: int,
    planes: int,
    share: float = 1.0,
) -> None:
    """Refuse a scan that does not fit into the memory that is free now.

    Args:
        planes: of a window, along K: so much of the class probabilities is held at a time.
        share: of the free memory that it may take.

    Raises:
        TooLargeError: it does not fit.
        ScanError: its header cannot be read.
    """
    headers = [_header(image) for image in images]
    grid = headers[0][0]
    size, spacing = grid.size, grid.spacing
    check_unit(str(images[0]), size, spacing)
    needed = memory_needed(grid, [depth for _, depth in headers], preparation, classes, planes)
    free = free_ram()
    if needed > share * free:
        sides, mm = "x".join(map(str, size)), "x".join(f"{side:.3g}" for side in spacing)
        coarse = " x ".join(f"{side:.3g}" for side in preparation.spacing)
        raise TooLargeError(
            f"{name}: {sides} voxels of {mm} mm need about {needed / 1e9:.0f} GB of memory and {free / 1e9:.0f} GB are "
            f"free; crop the scan or save it with larger voxels (the model works at {coarse} mm)."
        )


def memory_needed(
    grid: Geometry,
    depths: Sequence[int],
    preparation: Preparation,
    classes: int,
    planes: int,
) -> int:
    """Bytes for segmenting a scan.

    Args:
        depths: bytes of a voxel, for each channel.
        planes: of a window, along K.
    """
    prepared = prepared_grid(grid, preparation)
    scan = grid.voxels * (sum(depths) + max(depths))  # one channel at a time is turned
    network = prepared.voxels * (4 * len(depths) + 1)
    slab = prepared.size[0] * prepared.size[1] * min(planes, prepared.size[2]) * (2 * classes + 6)
    labels = 3 * grid.voxels
    return _BASE + scan + network + slab + labels


def _header(image: Path | DicomSeries) -> tuple[Geometry, int]:
    """The grid, and bytes of a voxel."""
    if isinstance(image, Path) and is_freesurfer(image):
        volume, kind = read_freesurfer_header(image)
        return volume, kind.itemsize
    if isinstance(image, Path) and not image.is_dir():
        header, files = read_header(image), 1
    else:
        found = [image] if isinstance(image, DicomSeries) else list(series_in(image).series.values())
        if len(found) != 1:
            return Geometry((1, 1, 1), (1.0, 1.0, 1.0)), 2  # reading it says what is wrong
        header, files = read_dicom_header(found[0].files[0]), len(found[0].files)
    size, spacing = [*header.GetSize(), 1, 1][:3], [*header.GetSpacing(), 1.0, 1.0][:3]
    grid = Geometry((size[0], size[1], size[2] * files), (spacing[0], spacing[1], spacing[2]))
    if header.GetDimension() == 3:
        grid = replace(grid, direction=header.GetDirection())
    depth = sitk.Image([1, 1], header.GetPixelID()).GetSizeOfPixelComponent() * header.GetNumberOfComponents()
    return grid, depth * math.prod([*header.GetSize()[3:], 1])
