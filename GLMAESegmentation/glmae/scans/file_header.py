"""What the libraries of images pass over in a header: missing voxel sizes, units, and what a file really is."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from ..errors import ScanError

_MILLIMETERS = frozenset({"mm", "millimeter", "millimeters", "millimetre", "millimetres", "???", ""})
# Begins of files under a name that is not theirs, and what they are.
_CONTENT = (
    (rb"version https://git-lfs", "is only the pointer of Git LFS; get the file itself with: git lfs pull"),
    (rb"\S*/annex/objects/", "is only the pointer of git-annex; get the file itself with: datalad get"),
    (rb"(?s).{128}DICM", "is a DICOM file under another name; put it in a folder of its own, and give that"),
    (rb"(\s|\xef\xbb\xbf)*<(!doctype|html|\?xml)", "is a page of the web or XML, no image; download it again"),
    (rb"PK\x03\x04", "is a ZIP archive; unpack it"),
    (rb"(BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!)", "is packed in a way that is not read; unpack it"),
    (rb"\x1f\x8b", "is packed although its name does not say so; give it an ending with .gz, or unpack it"),
    (rb"(?s)(\x1c\x02\0\0|\0\0\x02\x1c)", "is NIfTI-2, which is not read; save it as NIfTI-1"),
    (rb"\x5c\x01\0\0|\0\0\x01\x5c", "is NIfTI without the end of its header, or Analyze; save it as NIfTI again"),
    (rb"NRRD000", "is NRRD under another name; give it the ending .nrrd"),
    (rb"(ObjectType|NDims)\s*=", "is MetaImage under another name; give it the ending .mha"),
    (rb"\x89PNG|\xff\xd8\xff|II\*\0|MM\0\*|GIF8|BM", "is a picture; give a 3D scan"),
)


def content_under_name(path: Path, readers: str) -> str | None:
    """What a file is that is not what its ending says, with a remedy.

    Args:
        path: the file.
        readers: the kind that its ending says; for that there is no answer.
    """
    try:
        start = _start(path, 400)
    except OSError:
        return None
    for pattern, answer in _CONTENT:
        if re.match(pattern, start, re.IGNORECASE) and not answer.startswith(f"is {readers} "):
            return answer
    return None


def check_stated_size(path: Path) -> None:
    """Refuse NRRD and MetaImage files whose header gives no voxel size, for which readers take 1 mm, or no millimeters.

    Raises:
        ScanError: the size is not given in millimeters.
    """
    name, given, unit = path.name.lower(), None, b""
    if name.endswith((".nrrd", ".nhdr")):
        header = _start(path, 1 << 20).split(b"\n\n")[0].split(b"\r\n\r\n")[0]
        given = re.search(rb"(?m)^(space directions|spacings):.*\d", header)
        if units := re.search(rb'(?m)^(space )?units: *"(.*?)"', header):
            unit = units[2]
    elif name.endswith((".mha", ".mhd")):
        header = _start(path, 1 << 16).split(b"ElementDataFile")[0]
        given = re.search(rb"(?mi)^\s*Element(Spacing|Size)\s*=", header)
    else:
        return
    if not given:
        raise ScanError(f"{path} has no voxel size in its header; save it again with its spacing.")
    word = unit.decode("latin-1").strip()
    if word.lower() not in _MILLIMETERS:
        raise ScanError(f"{path} gives its voxel size in {word!r}; save it again in mm.")


def missing_data_file(path: Path) -> str | None:
    """The file that a detached header, `.nhdr` or `.mhd`, names for its voxels, where that is not there."""
    if not path.name.lower().endswith((".nhdr", ".mhd", ".nrrd", ".mha")):
        return None
    start = _start(path, 1 << 16)
    found = re.search(rb"(?mi)^(?:data ?file:|ElementDataFile\s*=)\s*([^\r\n]+)", start)
    if found is None:
        return None
    name = found[1].decode("utf-8", "replace").strip()
    if name.upper().startswith(("LOCAL", "LIST")) or "%" in name:
        return None
    return None if (path.parent / name).is_file() else name


def _start(path: Path, length: int) -> bytes:
    """The first bytes of a file, unpacked where its name says that it is packed."""
    with path.open("rb") as file:
        start = file.read(length)
    if not path.name.lower().endswith((".gz", ".mgz")) or start[:2] != b"\x1f\x8b":
        return start
    try:
        with gzip.open(path) as packed:
            return packed.read(length)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""
