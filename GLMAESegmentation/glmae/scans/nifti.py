"""What the NIfTI library is silent about: it fills the missing end of a file, and voxels that are no number, with 0."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_FLOATS = {"16": "f4", "64": "f8"}
_BLOCK = 1 << 22


def is_nifti(header: sitk.ImageFileReader) -> bool:
    """Whether a file whose header was read is NIfTI in one file (`.nii`, packed or not)."""
    # Not by the fields of the header: programs copy those of NIfTI into other formats.
    name = header.GetFileName()
    return header.GetImageIOFromFileName(name) == "NiftiImageIO" and not name.lower().endswith((".hdr", ".img"))


def is_whole(header: sitk.ImageFileReader) -> bool:
    """Whether a NIfTI file holds all of its voxels."""
    path = Path(header.GetFileName())
    start, count = _layout(header)
    wanted = start + count * int(header.GetMetaData("bitpix")) // 8
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return file.seek(0, 2) >= wanted
        # A gzip file ends with its unpacked size modulo 2^32; looking there saves unpacking it twice.
        file.seek(-4, 2)
        if int.from_bytes(file.read(4), "little") == wanted % 2**32:
            return True
    try:
        return sum(map(len, _blocks(path))) >= wanted
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


def non_finite(header: sitk.ImageFileReader) -> np.ndarray:
    """Which voxels of a whole NIfTI file are NaN or infinite: their numbers in the file, I fastest, [m]."""
    kind = _FLOATS.get(header.GetMetaData("datatype"))
    if kind is None:
        return np.empty(0, dtype=np.int64)
    start, count = _layout(header)
    size = np.dtype(kind).itemsize
    found, rest, done, order = [], b"", -start, "<"
    for block in _blocks(Path(header.GetFileName())):
        if done == -start:
            # The first field is the size of the header, 348: it tells the byte order.
            order = "<" if int.from_bytes(block[:4], "little") == 348 else ">"
        skip = min(len(block), max(0, -done))
        if done < 0:
            done += skip
        rest += block[skip:]
        whole = len(rest) // size * size
        values = np.frombuffer(rest[:whole], dtype=order + kind)
        found.append(done + np.flatnonzero(~np.isfinite(values)))
        done, rest = done + len(values), rest[whole:]
    numbers = np.concatenate(found)
    return numbers[numbers < count]


def _layout(header: sitk.ImageFileReader) -> tuple[int, int]:
    """Where the voxels begin in the file, and how many numbers there are."""
    sides = [max(1, int(header.GetMetaData(f"dim[{axis}]"))) for axis in range(1, 8)]
    return int(float(header.GetMetaData("vox_offset"))), math.prod(sides)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
