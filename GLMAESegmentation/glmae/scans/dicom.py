"""Which DICOM series lie in a folder or a tree, told apart by what their files say, whatever these are called."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from ..errors import ScanError
from ..files import check_name, decoded, has_utf8_name, itk_path, last_line, shown

POSITION = "0020|0032"
_STUDY, _SERIES, _NUMBER, _MODALITY, _KIND = "0020|000d", "0020|000e", "0020|0011", "0008|0060", "0008|0008"
# What a reader takes for images, but is made from them, or is a plan or a report.
NO_SCANS = frozenset({"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTIMAGE", "SR", "PR", "KO", "REG", "DOC"})


# What holds labels, but is no scan.
_LABELS = frozenset({"SEG", "RTSTRUCT"})
_Key = tuple[str, ...]


@dataclass(frozen=True)
class DicomSeries:
    """One series, where a folder holds several, or several folders one.

    Attributes:
        folder: that its files are in, or in folders below it.
        files: in any order.
    """

    folder: Path
    files: tuple[Path, ...]
    number: str
    modality: str

    def __str__(self) -> str:
        files = f"{len(self.files)} file{'s' * (len(self.files) > 1)}"
        return f"{self.folder} (series {self.number}: {self.modality}, {files})"


@dataclass
class DicomTree:
    """What a folder and the folders below it hold.

    Attributes:
        series: name -> series, in the order of the names.
        passed_over: sentences about what is no scan.
        unreadable: sentences about what may be one, but cannot be read.
        labels: segmentations and contours.
        others: files that are no DICOM, and dead links.
    """

    series: dict[str, DicomSeries] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def find_series(root: Path, folders: Sequence[Path], files: Sequence[Path] = ()) -> DicomTree:
    """All series in some folders (and the folders below them) and among some files.

    A series is what has one study, series and series number, and one size of its slices: identifiers alone do not tell,
    as some programs give one to several series. Its files may lie in several folders; where these hold slices of one
    place, they are several series all the same. It is called after its files' folder, seen from `root`, and where
    several lie in one, by its number, too; one of a single file after that there, and in `root`.

    Args:
        root: the names are relative to it; files that lie directly in it are called like it.
        folders: below it.
        files: in it.
    """
    groups: dict[_Key, list[tuple[Path, str]]] = defaultdict(list)
    headers: dict[_Key, sitk.ImageFileReader] = {}
    tree, unreadable, misnamed = DicomTree(), 0, 0
    for file in (*files, *(file for folder in folders for file in _files_below(folder))):
        if not is_dicom(file):
            tree.others.append(file)
            continue
        if file.name.upper() == "DICOMDIR":  # the list of an archive
            continue
        if not has_utf8_name(file):
            misnamed += 1
            continue
        try:
            header = read_dicom_header(file)
        except ScanError:  # contours, a report, or damaged; a gap in its series will be found when that is read
            modality = modality_of(file)
            if modality in NO_SCANS:
                tree.passed_over.append(f"{file} ({modality}): no scan by its modality")
                tree.labels += [file] if modality in _LABELS else []
            else:
                unreadable += 1
            continue
        key = (*(tag(header, name) for name in (_STUDY, _SERIES, _NUMBER)), *map(str, header.GetSize()[:2]))
        groups[key].append((file, tag(header, POSITION)))
        headers.setdefault(key, header)
    if unreadable:
        tree.unreadable.append(f"{shown(root)}: no picture, or damaged: {unreadable} of its DICOM files")
    if misnamed:
        tree.unreadable.append(f"{shown(root)}: the names of {misnamed} of its DICOM files are not UTF-8; rename them")
    found: dict[str, list[tuple[_Key, DicomSeries]]] = defaultdict(list)
    for key, members in groups.items():
        header = headers[key]
        for together in _apart(members):
            series = DicomSeries(
                folder=Path(os.path.commonpath([file.parent for file in together])),
                files=tuple(sorted(together)),
                number=tag(header, _NUMBER) or "?",
                modality=tag(header, _MODALITY) or "?",
            )
            reason = _no_scan(header, series)
            if reason:
                tree.passed_over.append(f"{series}: {reason}")
                tree.labels += together if series.modality in _LABELS else []
            else:
                found["_".join(series.folder.relative_to(root).parts) or root.resolve().name].append((key, series))
    named: dict[str, DicomSeries] = {}
    for base, members_here in found.items():
        numbers = [series.number for _, series in members_here]
        for key, series in members_here:
            name = shown(base)
            if len(series.files) == 1 and (len(members_here) > 1 or series.folder == root):
                folder = series.folder.relative_to(root)
                name = shown("_".join([*folder.parts, file_stem(series.files[0])]))
            elif len(members_here) > 1:
                name += f" series {re.sub('[^0-9]', '', series.number) or 'x'}"
            if name in named or (numbers.count(series.number) > 1 and len(series.files) > 1):
                # Not the identifier itself, which leads to the patient.
                name += " " + hashlib.sha256("\n".join(key).encode()).hexdigest()[:6]
            named[name] = series
    tree.series = dict(sorted(named.items()))
    return tree


def file_stem(file: Path) -> str:
    """The name of a DICOM file without its ending; a number is none."""
    return file.stem if file.suffix.lower() in (".dcm", ".dicom", ".ima") else file.name


def series_in(folder: Path) -> DicomTree:
    """The series in a folder, not in folders below it."""
    return find_series(folder, [], sorted(file for file in folder.iterdir() if file.is_file()))


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file lies directly in the folder."""
    return any(is_dicom(file) for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))


def modality_of(file: Path) -> str:
    """`CT`, `SEG`, ... of any DICOM file; empty where it does not say, or is none."""
    import pydicom  # here, because little else needs it

    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"], force=True)
        return str(header.get("Modality") or "").strip()
    except Exception:  # whatever a damaged file makes of it
        return ""


def is_dicom(file: Path) -> bool:
    """Whether it has the mark `DICM` after the 128-byte preamble, or begins, as old archives do, with what follows it:
    an element of the groups 2 or 8, with a type in two letters or a small length."""
    try:
        with file.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    if len(start) < 132 or start[:2] not in (b"\x02\0", b"\x08\0") or start[3:4] not in (b"\0", b"\x01"):
        return False
    return start[4:6] in (b"UL", b"UI", b"CS", b"OB", b"SH", b"DA") or 0 < int.from_bytes(start[4:8], "little") < 128


def read_dicom_header(file: Path) -> sitk.ImageFileReader:
    """Read the tags of a file.

    Raises:
        ScanError: it is no DICOM image, or damaged.
    """
    check_name(file)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_path(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ScanError(f"{file} cannot be read as DICOM ({last_line(error)}); export the series again.") from error
    return reader


def tag(header: sitk.ImageFileReader, key: str) -> str:
    """The text of a tag; empty if it is not there."""
    return decoded(header.GetMetaData(key)).strip(" \0") if header.HasMetaDataKey(key) else ""


def _apart(members: Sequence[tuple[Path, str]]) -> list[list[Path]]:
    """Files of one key with their places; by folder where two have the same one."""
    folders = {file.parent for file, _ in members}
    if len({place for _, place in members}) == len(members) or len(folders) == 1:
        return [[file for file, _ in members]]
    return [[file for file, _ in members if file.parent == folder] for folder in sorted(folders)]


def _files_below(folder: Path) -> list[Path]:
    found = []
    for here, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(here) / name for name in sorted(files) if not name.startswith(".")]
    return found


def _no_scan(header: sitk.ImageFileReader, series: DicomSeries) -> str | None:
    """Why a series is no scan; None if it may be one."""
    if series.modality in NO_SCANS:
        return "no scan by its modality"
    if "LOCALIZER" in tag(header, _KIND).upper():
        return "a localizer"
    size = header.GetSize()
    if len(series.files) == 1 and (len(size) < 3 or size[2] == 1):
        return "a single picture"
    return None
