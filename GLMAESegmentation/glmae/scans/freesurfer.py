"""FreeSurfer's volumes, `.mgz` and `.mgh`, which ITK does not read: a header of 284 bytes, then the voxels, big-endian.

The layout is that of FreeSurfer's wiki, page "MghFormat".
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .file_content import beginning, content_under_name, unpacked
from .geometry import Geometry

FREESURFER_ENDINGS = (".mgz", ".mgh")
_HEADER = struct.Struct(">7i h 15f")
_DATA_AT = 284
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def is_freesurfer(path: Path) -> bool:
    """Whether a file is one by its ending."""
    return path.name.lower().endswith(FREESURFER_ENDINGS)


def read_freesurfer_header(path: Path) -> tuple[Geometry, np.dtype]:
    """Where the voxels lie, and their type in the file.

    Raises:
        ScanError: it is no such file, has several volumes, or does not say where it lies.
    """
    return _parsed(path, beginning(path, _DATA_AT))


def read_freesurfer(path: Path) -> sitk.Image:
    """Read a volume, in the type of its voxels.

    Raises:
        ScanError: see `read_freesurfer_header`; or its end is missing.
    """
    try:
        content = b"".join(unpacked(path))
    except (EOFError, zlib.error) as error:
        raise ScanError(f"{path} is damaged or incomplete; copy or export it again.") from error
    grid, kind = _parsed(path, content)
    if len(content) < _DATA_AT + grid.voxels * kind.itemsize:
        raise ScanError(f"{path} is incomplete, the end of the scan is missing; copy or export it again.")
    voxels = np.frombuffer(content, kind, grid.voxels, _DATA_AT)
    return grid.image(voxels.astype(kind.newbyteorder("=")).reshape(grid.size[::-1]))


def _parsed(path: Path, content: bytes) -> tuple[Geometry, np.dtype]:
    if len(content) < _DATA_AT:
        raise ScanError(f"{path} is incomplete or no FreeSurfer volume; copy or export it again.")
    version, *sides, frames, kind, _, placed = _HEADER.unpack_from(content)[:8]
    numbers = np.array(_HEADER.unpack_from(content)[8:], dtype=float)
    if version != 1 or kind not in _TYPES or min(sides) < 1 or math.prod(sides) > 2**40:
        what = (
            content_under_name(path, "FreeSurfer") or "is no FreeSurfer volume, or is damaged; copy or export it again"
        )
        raise ScanError(f"{path} {what}.")
    if frames != 1:
        raise ScanError(f"{path} holds {frames} volumes; save the one that is meant.")
    if not placed or not np.isfinite(numbers).all():
        raise ScanError(f"{path} does not say where it lies; convert it with mri_convert to .nii.gz.")
    spacing, columns, center = numbers[:3], numbers[3:12].reshape(3, 3), numbers[12:]
    direction = np.diag([-1.0, -1.0, 1.0]) @ columns.T  # RAS to LPS
    # The center is that of voxel size / 2, not of the box.
    origin = np.diag([-1.0, -1.0, 1.0]) @ center - direction @ (spacing * np.array(sides) / 2)
    return Geometry.from_arrays(sides, spacing, origin, direction), np.dtype(_TYPES[kind])
