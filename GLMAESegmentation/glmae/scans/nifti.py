"""What the NIfTI library is silent about: it fills the missing end of a file, and voxels that are no number, with 0."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .packed import beginning, size_in, unpacked

_FLOATS = {"16": "f4", "64": "f8"}
# The numbers of types of voxels that the library knows.
_TYPES = {2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1792, 2304}
_METER, _MICROMETER = 1, 3


def check_header(path: Path) -> None:
    """Refuse a `.nii` or `.nii.gz` for what its header says, where the library would not say why, or would not at all.

    Raises:
        ScanError: it states no size, a type of voxels that is not read, or a place that is no number.
    """
    start = beginning(path, 348)
    if len(start) < 348 or 348 not in (int.from_bytes(start[:4], order) for order in ("little", "big")):
        return  # no NIfTI: whoever reads it finds out what it is
    order = _byte_order(start)
    sides = np.frombuffer(start[40:56], f"{order}i2")
    kind = int(np.frombuffer(start[70:72], f"{order}i2")[0])
    codes = np.frombuffer(start[252:256], f"{order}i2")
    qform, sform = np.split(np.frombuffer(start[256:328], f"{order}f4"), [6])
    if not 1 <= sides[0] <= 7 or sides[1 : sides[0] + 1].min() < 1:
        raise ScanError(f"{path} states no size in its header; save it again.")
    if kind not in _TYPES:
        raise ScanError(
            f"{path} holds voxels of a type that is not read (number {kind} of NIfTI's); save it as 16-bit integers or "
            "32-bit floats."
        )
    for code, numbers in zip(codes, (qform, sform), strict=True):
        if code > 0 and not np.isfinite(numbers).all():
            raise ScanError(f"{path} has no numbers where its header should say where it lies; save it again.")
    if codes[0] <= 0 < codes[1] and not sform.reshape(3, 4)[:, :3].any(axis=0).all():
        raise ScanError(f"{path} has no voxel size in its header; save it again with its spacing.")


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
    return size_in(path, 0, packed=True) >= wanted


def non_finite(header: sitk.ImageFileReader) -> np.ndarray:
    """Which voxels of a whole NIfTI file are NaN or infinite: their numbers in the file, I fastest, [m]."""
    kind = _FLOATS.get(header.GetMetaData("datatype"))
    if kind is None:
        return np.empty(0, dtype=np.int64)
    start, count = _layout(header)
    size = np.dtype(kind).itemsize
    found, rest, done, order = [], b"", -start, "<"
    for block in unpacked(Path(header.GetFileName())):
        if done == -start:
            order = _byte_order(block)
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


def two_places(header: sitk.ImageFileReader) -> str | None:
    """What is said where a NIfTI header does not give one answer to where the scan lies; None where it does."""
    places = {"qform": _qform(header), "sform": _sform(header)}
    given = {name: place for name, place in places.items() if int(header.GetMetaData(f"{name}_code")) > 0}
    size = np.array([*header.GetSize(), 1, 1][:3])
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in size], (1,))))
    spacing, direction = np.array(header.GetSpacing()[:3]), np.array(header.GetDirection())
    count = int(math.sqrt(len(direction)))
    matrix = np.column_stack([direction.reshape(count, count)[:3, :3] * spacing, np.array(header.GetOrigin()[:3])])
    taken = corners @ (np.diag([-1.0, -1.0, 1.0]) @ matrix).T  # RAS
    apart = {name: float(np.linalg.norm(corners @ place.T - taken, axis=1).max()) for name, place in given.items()}
    if not apart:
        return "its header does not say where it lies; its axes are taken to point left, back and up"
    if max(apart.values()) <= 0.5 * spacing.min():
        return None
    used = min(apart, key=lambda name: apart[name])
    other = ("sform" if used == "qform" else "qform") if len(apart) > 1 else "voxel size"
    far = f"{max(apart.values()):.3g} mm"
    return f"its header says twice where it lies, up to {far} apart; the {used} counts, not the {other}"


def has_voxel_size(header: sitk.ImageFileReader) -> bool:
    """Whether the voxel sizes of a NIfTI header are above 0; the library takes 1 mm where they are not."""
    return bool((_pixdim(header)[1:] > 0).all())


def _pixdim(header: sitk.ImageFileReader) -> np.ndarray:
    """A sign and the sizes of a voxel as they are in the file; the library corrects those that it gives."""
    start = next(unpacked(Path(header.GetFileName())))
    return np.frombuffer(start[76:92], dtype=f"{_byte_order(start)}f4").astype(float)


def _byte_order(start: bytes) -> str:
    # The first field is the size of the header, 348.
    return "<" if int.from_bytes(start[:4], "little") == 348 else ">"


def _sform(header: sitk.ImageFileReader) -> np.ndarray:
    """Index to RAS, mm: 3x4."""
    rows = [header.GetMetaData(f"srow_{axis}").split() for axis in "xyz"]
    return np.array(rows, dtype=float) * _millimeters(header)


def _qform(header: sitk.ImageFileReader) -> np.ndarray:
    """Index to RAS, mm: 3x4. (NIfTI-1 standard, method 2.)"""
    b, c, d = (float(header.GetMetaData(f"quatern_{axis}")) for axis in "bcd")
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turned = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sign, *sides = _pixdim(header)
    if sign < 0:
        sides[2] *= -1
    offset = [float(header.GetMetaData(f"qoffset_{axis}")) for axis in "xyz"]
    return np.column_stack([turned * sides, offset]) * _millimeters(header)


def _millimeters(header: sitk.ImageFileReader) -> float:
    return {_METER: 1000.0, _MICROMETER: 0.001}.get(int(header.GetMetaData("xyzt_units")) & 7, 1.0)
