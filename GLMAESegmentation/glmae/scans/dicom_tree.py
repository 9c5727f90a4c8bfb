"""Every series of a DICOM tree, told apart by what its files say, whatever they are called and wherever they lie."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..errors import ScanError
from ..files import has_utf8_name, shown
from .dicom import NO_SCANS, DicomSeries, is_dicom, modality_of, read_dicom_header, tag

# What holds labels, but is no scan.
LABELS = frozenset({"SEG", "RTSTRUCT"})
_Key = tuple[str, ...]


@dataclass(frozen=True)
class DicomTree:
    """What a folder and the folders below it hold.

    Attributes:
        series: name -> series, in the order of the names.
        passed_over: sentences about what is no scan.
        unreadable: sentences about what may be one, but cannot be read.
        labels: segmentations and contours.
        others: files that are no DICOM, and dead links.
    """

    series: dict[str, DicomSeries]
    passed_over: tuple[str, ...]
    unreadable: tuple[str, ...]
    labels: tuple[Path, ...]
    others: tuple[Path, ...]


def find_series(root: Path, folders: Sequence[Path], files: Sequence[Path] = ()) -> DicomTree:
    """All series in some folders (and the folders below them) and among some files.

    A series is what has one study, series and series number, and one size of its slices: identifiers alone do not tell,
    as some programs give one to several series. Its files may lie in several folders; where these hold slices of one
    place, they are several series all the same. It is called after its files' folder, seen from `root`, and where
    several lie in one, by its number, too; one of a single file after that.

    Args:
        root: the names are relative to it; files that lie directly in it are called like it.
        folders: below it.
        files: in it.
    """
    groups: dict[_Key, list[tuple[Path, str]]] = defaultdict(list)
    headers: dict[_Key, sitk.ImageFileReader] = {}
    passed_over, unreadable, misnamed = [], 0, 0
    labels: list[Path] = []
    others: list[Path] = []
    for file in (*files, *(file for folder in folders for file in _files_below(folder))):
        if not is_dicom(file):
            others.append(file)
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
                passed_over.append(f"{file} ({modality}): no scan by its modality")
                labels += [file] if modality in LABELS else []
            else:
                unreadable += 1
            continue
        key = _key(header)
        groups[key].append((file, tag(header, "0020|0032")))
        headers.setdefault(key, header)
    lost = []
    if unreadable:
        lost.append(f"{shown(root)}: no picture, or damaged: {unreadable} of its DICOM files")
    if misnamed:
        lost.append(f"{shown(root)}: the names of {misnamed} of its DICOM files are not UTF-8; rename them")
    found: dict[str, list[tuple[_Key, DicomSeries]]] = defaultdict(list)
    for key, members in groups.items():
        header = headers[key]
        for together in _apart(members):
            series = DicomSeries(
                folder=Path(os.path.commonpath([file.parent for file in together])),
                files=tuple(sorted(together)),
                number=tag(header, "0020|0011") or "?",
                modality=tag(header, "0008|0060") or "?",
            )
            reason = _no_scan(header, series)
            if reason:
                passed_over.append(f"{series}: {reason}")
                labels += together if series.modality in LABELS else []
            else:
                found[_base(series.folder, root)].append((key, series))
    named: dict[str, DicomSeries] = {}
    for base, members_here in found.items():
        numbers = [series.number for _, series in members_here]
        for key, series in members_here:
            name = base
            if len(members_here) > 1 and len(series.files) == 1:
                folder = series.folder.relative_to(root)
                name = shown("_".join([*folder.parts, file_stem(series.files[0])]))
            elif len(members_here) > 1:
                name += f" series {re.sub('[^0-9]', '', series.number) or 'x'}"
            if name in named or (numbers.count(series.number) > 1 and len(series.files) > 1):
                # Not the identifier itself, which leads to the patient.
                name += " " + hashlib.sha256("\n".join(key).encode()).hexdigest()[:6]
            named[name] = series
    return DicomTree(dict(sorted(named.items())), tuple(passed_over), tuple(lost), tuple(labels), tuple(others))


def file_stem(file: Path) -> str:
    """The name of a DICOM file without its ending; a number is none."""
    return file.stem if file.suffix.lower() in (".dcm", ".dicom", ".ima") else file.name


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


def _key(header: sitk.ImageFileReader) -> _Key:
    width, height = header.GetSize()[:2]
    return (*(tag(header, key) for key in ("0020|000d", "0020|000e", "0020|0011")), f"{width}x{height}")


def _no_scan(header: sitk.ImageFileReader, series: DicomSeries) -> str | None:
    """Why a series is no scan; None if it may be one."""
    if series.modality in NO_SCANS:
        return "no scan by its modality"
    if "LOCALIZER" in tag(header, "0008|0008").upper():
        return "a localizer"
    size = header.GetSize()
    if len(series.files) == 1 and (len(size) < 3 or size[2] == 1):
        return "a single picture"
    return None


def _base(folder: Path, root: Path) -> str:
    parts = folder.relative_to(root).parts
    return shown("_".join(parts) if parts else root.resolve().name)
