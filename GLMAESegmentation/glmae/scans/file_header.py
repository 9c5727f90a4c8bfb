"""What the libraries of images pass over in a header: missing voxel sizes, units, and what a file really is."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..errors import ScanError
from .packed import beginning, size_in

_MILLIMETERS = frozenset({"mm", "millimeter", "millimeters", "millimetre", "millimetres", "???", ""})
# What says in a MetaImage how large its voxels are and where they lie.
_PLACE = rb"ElementSpacing|ElementSize|Offset|Position|Origin|TransformMatrix|Rotation|Orientation"
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


def check_stated_size(path: Path) -> None:
    """Refuse NRRD and MetaImage files whose header gives no voxel size, for which readers take 1 mm, or no millimeters.

    Raises:
        ScanError: the size is not given in millimeters, or what says where the scan lies is not in numbers.
    """
    name, unit = path.name.lower(), b""
    if name.endswith((".nrrd", ".nhdr")):
        header = beginning(path, 1 << 20).split(b"\n\n")[0].split(b"\r\n\r\n")[0]
        axes = re.search(rb"(?m)^space directions:(.*)", header)
        given = re.search(rb"(?m)^spacings:.*\d", header) or (axes and axes[1].count(b"(") > 2)
        if units := re.search(rb'(?m)^(space )?units: *"(.*?)"', header):
            unit = units[2]
    elif name.endswith((".mha", ".mhd")):
        header = beginning(path, 1 << 16).split(b"ElementDataFile")[0]
        given = re.search(rb"(?mi)^\s*Element(Spacing|Size)\s*=", header)
        for key, text in re.findall(rb"(?mi)^\s*(%s)\s*=([^\r\n]*)" % _PLACE, header):
            if not all(map(_is_number, text.split())):
                raise ScanError(
                    f"{path} has {text.strip().decode('latin-1')!r} where its header wants the numbers of "
                    f"{key.decode()}; save it again."
                )
    else:
        return
    if not given:
        raise ScanError(f"{path} has no voxel size in its header; save it again with its spacing.")
    word = unit.decode("latin-1").strip()
    if word.lower() not in _MILLIMETERS:
        raise ScanError(f"{path} gives its voxel size in {word!r}; save it again in mm.")


def is_metaimage(path: Path) -> bool:
    """Whether a file has the lines that its reader needs, which else complains past Python to standard error."""
    header = beginning(path, 1 << 16)
    sides = re.search(rb"(?mi)^\s*DimSize\s*=([ \d]*)\r?$", header)
    wanted = (rb"NDims\s*=\s*[1-9]\s*$", rb"ElementType\s*=", rb"ElementDataFile\s*=")
    return bool(sides and all(map(int, sides[1].split()))) and all(
        re.search(rb"(?mi)^\s*" + line, header) for line in wanted
    )


def check_voxels(path: Path, size: int) -> None:
    """Refuse NRRD and MetaImage files whose voxels are incomplete or damaged, which their readers do not always notice.

    Args:
        path: the file, or the header of one.
        size: bytes that the voxels take.

    Raises:
        ScanError: there are fewer, or their checksum is wrong.
    """
    name = path.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        place = _nrrd_voxels(path)
    else:
        place = _metaimage_voxels(path) if name.endswith((".mha", ".mhd")) else None
    if place is None or not place[0].is_file() or (held := size_in(*place)) >= size:
        return
    what = "is damaged, its voxels have a wrong checksum or no end" if held < 0 else "is incomplete, its end is missing"
    raise ScanError(f"{path} {what}; copy or export it again.")


def _nrrd_voxels(path: Path) -> tuple[Path, int, bool] | None:
    """The file of the voxels, their first byte in it, and whether they are packed; None where it is not that simple."""
    start = beginning(path, 1 << 20)
    end = re.search(rb"\r?\n\r?\n|\Z", start)
    assert end is not None
    header = start[: end.start()]
    encoding = re.search(rb"(?mi)^encoding:\s*(raw|gz|gzip)\s*$", header)
    if not encoding or re.search(rb"(?mi)^(byte|line) ?skip:\s*-?[1-9]", header):
        return None
    packed, named = encoding[1].lower() != b"raw", re.search(rb"(?mi)^data ?file:\s*([^\r\n]+)", header)
    return (_beside(path, named[1]), 0, packed) if named else (path, end.end(), packed)


def _metaimage_voxels(path: Path) -> tuple[Path, int, bool] | None:
    """The same of a MetaImage."""
    start = beginning(path, 1 << 20)
    line = re.search(rb"(?mi)^\s*ElementDataFile\s*=\s*([^\r\n]*?)[ \t]*\r?(\n|\Z)", start)
    if not line or re.search(rb"(?mi)^\s*(BinaryData\s*=\s*F|HeaderSize\s*=\s*-?[1-9])", start[: line.start()]):
        return None
    packed = bool(re.search(rb"(?mi)^\s*CompressedData\s*=\s*T", start[: line.start()]))
    return (path, line.end(), packed) if line[1].upper() == b"LOCAL" else (_beside(path, line[1]), 0, packed)


def _beside(path: Path, name: bytes) -> Path:
    return path.parent / name.decode("utf-8", "replace").strip()


def _is_number(word: bytes) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def missing_data_file(path: Path) -> str | None:
    """The file that a detached header, `.nhdr` or `.mhd`, names for its voxels, where that is not there."""
    if not path.name.lower().endswith((".nhdr", ".mhd", ".nrrd", ".mha")):
        return None
    start = beginning(path, 1 << 16)
    found = re.search(rb"(?mi)^(?:data ?file:|ElementDataFile\s*=)\s*([^\r\n]+)", start)
    if found is None:
        return None
    name = found[1].decode("utf-8", "replace").strip()
    if name.upper().startswith(("LOCAL", "LIST")) or "%" in name:
        return None
    return None if (path.parent / name).is_file() else name
