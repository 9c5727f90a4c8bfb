"""What is in a file: its bytes, unpacked, and whether all are there; what it really is; what its header leaves out.

The readers of NRRD and MetaImage do not verify checksums, and take 1 mm where a header gives no voxel size.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import ScanError

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 22
_MILLIMETERS = frozenset({"mm", "millimeter", "millimeters", "millimetre", "millimetres", "???", ""})
# What says in a MetaImage how large its voxels are and where they lie.
_PLACE = (
    *("ElementSpacing", "ElementSize", "Offset", "Position", "Origin"),
    *("TransformMatrix", "Rotation", "Orientation"),
)
_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)
# Begins of files under a name that is not theirs, and what they are.
_CONTENT = (
    (rb"version https://git-lfs", "is only the pointer of Git LFS; get the file itself with: git lfs pull"),
    (rb"\S*/annex/objects/", "is only the pointer of git-annex; get the file itself with: datalad get"),
    (rb"(?s).{128}DICM", "is a DICOM file under another name; put it in a folder of its own, and give that"),
    (rb"(\s|\xef\xbb\xbf)*<(!doctype|html|\?xml)", "is a page of the web or XML, no image; download it again"),
    (rb"PK\x03\x04", "is a ZIP archive; unpack it"),
    (rb"(BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!)", "is packed in a way that is not read; unpack it"),
    (rb"(?s)(\x1c\x02\0\0|\0\0\x02\x1c)", "is NIfTI-2, which is not read; save it as NIfTI-1"),
    (rb"\x5c\x01\0\0|\0\0\x01\x5c", "is NIfTI or Analyze under another name; give it the ending .nii or .nii.gz"),
    (rb"\x1f\x8b", "is packed twice; unpack it once"),
    (rb"NRRD000", "is NRRD under another name; give it the ending .nrrd"),
    (rb"(ObjectType|NDims)\s*=", "is MetaImage under another name; give it the ending .mha"),
    (rb"\x89PNG|\xff\xd8\xff|II\*\0|MM\0\*|GIF8|BM", "is a picture; give a 3D scan"),
)


def unpacked(path: Path, start: int = 0, packed: bool | None = None) -> Iterator[bytes]:
    """What a file holds, unpacked; what lies behind the last packed part is none of it.

    Args:
        start: its first byte that counts.
        packed: from there on it is gzip or zlib; None: if it begins as gzip does.

    Raises:
        EOFError: its end is missing.
        zlib.error: it is damaged.
    """
    with path.open("rb") as file:
        file.seek(start)
        rest = file.read(_BLOCK)
        if not (rest[:2] == _GZIP if packed is None else packed):
            while rest:
                yield rest
                rest = file.read(_BLOCK)
            return
        unpacker = zlib.decompressobj(wbits=47)  # by the first bytes: gzip or zlib
        while True:
            block = unpacker.decompress(rest, _BLOCK)
            if block:
                yield block
            if unpacker.eof:
                rest = unpacker.unused_data + file.read(_BLOCK)
                if rest[:2] != _GZIP:
                    return
                unpacker = zlib.decompressobj(wbits=47)
                continue
            rest = unpacker.unconsumed_tail
            if not rest and len(block) < _BLOCK:
                rest = file.read(_BLOCK)
                if not rest:
                    raise EOFError


def size_in(path: Path, start: int, packed: bool) -> int:
    """Bytes that a file holds from `start` on, unpacked; -1 if it is damaged or its end is missing."""
    try:
        return sum(map(len, unpacked(path, start, True))) if packed else path.stat().st_size - start
    except (EOFError, zlib.error):
        return -1


def beginning(path: Path, length: int) -> bytes:
    """The first bytes of a file, unpacked where it begins as gzip does; none where that is damaged."""
    try:
        return next(unpacked(path), b"")[:length]
    except (EOFError, zlib.error):
        return b""


def content_under_name(path: Path, readers: str) -> str | None:
    """What a file is that is not what its ending says, with a remedy.

    Args:
        readers: the kind that its ending says; for that there is no answer.
    """
    try:
        start = beginning(path, 400)
    except OSError:
        return None
    for pattern, answer in _CONTENT:
        if re.match(pattern, start, re.IGNORECASE) and not answer.startswith(f"is {readers} "):
            return answer
    if not path.name.lower().endswith((".gz", ".mgz")) and path.open("rb").read(2) == b"\x1f\x8b":
        return "is packed although its name does not say so; give it an ending with .gz, or unpack it"
    return None


def is_metaimage(path: Path) -> bool:
    """Whether a file has the lines that its reader needs, which else complains past Python to standard error."""
    fields, _ = text_header(path)
    sides = fields.get("dimsize", "0").split()
    whole = all(side.isdecimal() and int(side) for side in sides) and re.match("[1-9]$", fields.get("ndims", ""))
    return bool(whole) and {"elementtype", "elementdatafile"} <= set(fields)


def check_text_header(path: Path, size: int) -> None:
    """Refuse NRRD and MetaImage files for what their readers do not always notice; says nothing of other files.

    Args:
        path: the file, or the header of one.
        size: bytes that the voxels take.

    Raises:
        ScanError: no voxel size is given in millimeters, what says where the scan lies is not in numbers, voxels are
            missing, or their checksum is wrong.
    """
    fields, start = text_header(path)
    if not fields:
        return
    for key in _PLACE:
        text = fields.get(key.lower(), "")
        if not all(map(_NUMBER.fullmatch, text.split())):
            raise ScanError(f"{path} has {text!r} where its header wants the numbers of {key}; save it again.")
    given = re.search(r"\d", fields.get("spacings", "")) or fields.get("spacedirections", "").count("(") > 2
    if not (given or "elementspacing" in fields or "elementsize" in fields):
        raise ScanError(f"{path} has no voxel size in its header; save it again with its spacing.")
    unit = re.search('"(.*?)"', fields.get("spaceunits") or fields.get("units", ""))
    if unit and unit[1].strip().lower() not in _MILLIMETERS:
        raise ScanError(f"{path} gives its voxel size in {unit[1].strip()!r}; save it again in mm.")
    encoding = fields.get("encoding", "raw").lower()
    skipped = any(re.match("-?[1-9]", fields.get(key, "")) for key in ("byteskip", "lineskip", "headersize"))
    if encoding not in ("raw", "gz", "gzip") or skipped or fields.get("binarydata", "").upper().startswith("F"):
        return  # where the voxels are is not that simple
    packed = encoding != "raw" or fields.get("compresseddata", "").upper().startswith("T")
    name = _data_file(fields)
    voxels, start = (path.parent / name, 0) if name else (path, start)
    if not voxels.is_file() or (held := size_in(voxels, start, packed)) >= size:
        return
    what = "is damaged, its voxels have a wrong checksum or no end" if held < 0 else "is incomplete, its end is missing"
    raise ScanError(f"{path} {what}; copy or export it again.")


def missing_data_file(path: Path) -> str | None:
    """The file that a detached header, `.nhdr` or `.mhd`, names for its voxels, where that is not there."""
    name = _data_file(text_header(path)[0])
    if not name or name.upper().startswith("LIST") or "%" in name:
        return None
    return None if (path.parent / name).is_file() else name


def text_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a NRRD or MetaImage header, their names in small letters without spaces, and its length in bytes;
    none of other files.
    """
    nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    if not nrrd and not path.name.lower().endswith((".mha", ".mhd")):
        return {}, 0
    start = beginning(path, 1 << 20)
    last = rb"\r?\n\r?\n|\Z" if nrrd else rb"(?mi)^\s*ElementDataFile\s*=[^\r\n]*(\r?\n|\Z)|\Z"
    length = next(re.finditer(last, start)).end()
    lines = start[:length].decode("utf-8", "replace").splitlines()
    parts = (line.partition(":" if nrrd else "=") for line in lines)
    return {name.replace(" ", "").strip().lower(): text.strip() for name, _, text in parts}, length


def _data_file(fields: dict[str, str]) -> str:
    """The file beside the header that holds the voxels; empty where they follow it."""
    name = fields.get("datafile") or fields.get("elementdatafile", "")
    return "" if name.upper() == "LOCAL" else name
