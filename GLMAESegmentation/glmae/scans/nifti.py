"""What the NIfTI library is silent about: it fills the missing end of a file, and voxels that are no number, with 0."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .file_content import beginning, size_in, unpacked

_FLOATS = {16: "f4", 64: "f8"}
# The numbers of types of voxels that the library knows.
_TYPES = {2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1792, 2304}
_METER, _MICROMETER = 1, 3
# The fields of the header that are looked at here, as they are in the file: the library corrects those that it gives.
_HEADER = np.dtype(
    {
        "names": ["dim", "datatype", "bitpix", "pixdim", "offset", "units", "codes", "qform", "sform"],
        "formats": ["8i2", "i2", "i2", "8f4", "f4", "u1", "2i2", "6f4", "(3,4)f4"],
        "offsets": [40, 70, 72, 76, 108, 123, 252, 256, 280],
        "itemsize": 348,
    }
)


def check_nifti(path: Path) -> None:
    """Refuse a `.nii` or `.nii.gz` for what its header says, where the library would not say why, or would not at all.

    Raises:
        ScanError: it states no size, a type of voxels that is not read, or a place that is no number; it lacks voxels,
            or their size, for which the library takes 1 mm; or the library does not know its ending, in small letters
            and capitals.
    """
    ending = re.search(r"\.nii(\.gz)?$", path.name, re.IGNORECASE)
    if ending and ending[0] not in (ending[0].lower(), ending[0].upper()):
        raise ScanError(
            f"{path} has an ending in small letters and capitals; rename it to end with {ending[0].lower()}."
        )
    header = _header(path)
    if header is None:
        return  # whoever reads it finds out what it is
    sides, kind, places = header["dim"], int(header["datatype"]), (header["qform"], header["sform"])
    if not 1 <= sides[0] <= 7 or sides[1 : sides[0] + 1].min() < 1:
        raise ScanError(f"{path} states no size in its header; save it again.")
    if kind not in _TYPES:
        raise ScanError(
            f"{path} holds voxels of a type that is not read (number {kind} of NIfTI's); save it as 16-bit integers or "
            "32-bit floats."
        )
    if any(code > 0 and not np.isfinite(place).all() for code, place in zip(header["codes"], places, strict=True)):
        raise ScanError(f"{path} has no numbers where its header should say where it lies; save it again.")
    start, count = _layout(header)
    if not _holds(path, start + count * int(header["bitpix"]) // 8):
        raise ScanError(f"{path} is incomplete, the end of the scan is missing; copy or export it again.")
    empty = header["codes"][0] <= 0 < header["codes"][1] and not header["sform"][:, :3].any(axis=0).all()
    if empty or not (header["pixdim"][1:4] > 0).all():
        raise ScanError(f"{path} has no voxel size in its header; save it again with its spacing.")


def non_finite(path: Path) -> np.ndarray:
    """Which voxels of a whole NIfTI file are NaN or infinite: their numbers in the file, I fastest, [m]."""
    header = _header(path)
    kind = None if header is None else _FLOATS.get(int(header["datatype"]))
    if header is None or kind is None:
        return np.empty(0, dtype=np.int64)
    start, count = _layout(header)
    values = np.dtype(kind).newbyteorder(header.dtype["datatype"].byteorder)
    found, rest, done = [], b"", -start
    for block in unpacked(path):
        skip = min(len(block), max(0, -done))
        if done < 0:
            done += skip
        rest += block[skip:]
        whole = len(rest) // values.itemsize * values.itemsize
        some = np.frombuffer(rest[:whole], dtype=values)
        found.append(done + np.flatnonzero(~np.isfinite(some)))
        done, rest = done + len(some), rest[whole:]
    numbers = np.concatenate(found)
    return numbers[numbers < count]


def two_places(path: Path, header: sitk.ImageFileReader) -> str | None:
    """What is said where a NIfTI header does not give one answer to where the scan lies; None where it does.

    Args:
        header: as the library has it.
    """
    own = _header(path)
    if own is None:
        return None
    size = np.array([*header.GetSize(), 1, 1][:3])
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in size], (1,))))
    spacing, direction = np.array(header.GetSpacing()[:3]), np.array(header.GetDirection())
    count = int(math.sqrt(len(direction)))
    matrix = np.column_stack([direction.reshape(count, count)[:3, :3] * spacing, np.array(header.GetOrigin()[:3])])
    taken = corners @ (np.diag([-1.0, -1.0, 1.0]) @ matrix).T  # RAS
    mm = {_METER: 1000.0, _MICROMETER: 0.001}.get(int(own["units"]) & 7, 1.0)
    places = {"qform": _qform(own)} if own["codes"][0] > 0 else {}
    places |= {"sform": own["sform"].astype(float)} if own["codes"][1] > 0 else {}
    apart = {name: float(np.linalg.norm(corners @ (mm * at).T - taken, axis=1).max()) for name, at in places.items()}
    if not apart:
        return "its header does not say where it lies; its axes are taken to point left, back and up"
    if max(apart.values()) <= 0.5 * spacing.min():
        return None
    used = min(apart, key=lambda name: apart[name])
    other = ("sform" if used == "qform" else "qform") if len(apart) > 1 else "voxel size"
    far = f"{max(apart.values()):.3g} mm"
    return f"its header says twice where it lies, up to {far} apart; the {used} counts, not the {other}"


def _header(path: Path) -> Any:
    """The fields of `_HEADER`; None of a file that is no NIfTI with header and voxels in one.

    Other formats may hold the fields of a NIfTI header, too: programs copy them along.
    """
    start = beginning(path, 348) if path.name.lower().endswith((".nii", ".nii.gz")) else b""
    for order in ("<", ">"):
        if len(start) == 348 and np.frombuffer(start[:4], f"{order}i4")[0] == 348:
            return np.frombuffer(start, _HEADER.newbyteorder(order))[0]
    return None


def _layout(header: Any) -> tuple[int, int]:
    """Where the voxels begin in the file, and how many numbers there are."""
    return max(348, int(header["offset"])), math.prod(max(1, int(side)) for side in header["dim"][1:])


def _holds(path: Path, size: int) -> bool:
    """Whether a file has so many bytes, unpacked."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return file.seek(0, 2) >= size
        # A gzip file ends with its unpacked size modulo 2^32; looking there saves unpacking it twice.
        file.seek(-4, 2)
        if int.from_bytes(file.read(4), "little") == size % 2**32:
            return True
    return size_in(path, 0, packed=True) >= size


def _qform(header: Any) -> np.ndarray:
    """Index to RAS: 3x4. (NIfTI-1 standard, method 2.)"""
    b, c, d, *offset = map(float, header["qform"])
    turn = sitk.VersorTransform((b, c, d, math.sqrt(max(0.0, 1 - b * b - c * c - d * d))))
    sign, *sides = map(float, header["pixdim"][:4])
    return np.column_stack([np.reshape(turn.GetMatrix(), (3, 3)) * sides * [1, 1, -1 if sign < 0 else 1], offset])
