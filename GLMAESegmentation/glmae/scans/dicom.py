"""A folder with one DICOM series in, an image out. Only the geometry and the voxels are taken from the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..files import last_line, may_read

_POSITION, _ORIENTATION, _NUMBER, _MODALITY = "0020|0032", "0020|0037", "0020|0011", "0008|0060"
# Positions are written with few digits; a missing slice changes a distance by far more.
_UNEVEN = 0.05


@dataclass(frozen=True)
class DicomSeries:
    """One series, where a folder holds several, or several folders one.

    Attributes:
        folder: that its files are in, or in folders below it.
        files: in any order.
        number: of the series.
        modality: CT, MR, ...
    """

    folder: Path
    files: tuple[Path, ...]
    number: str
    modality: str

    def __str__(self) -> str:
        return f"{self.folder} (series {self.number}: {self.modality}, {len(self.files)} files)"


def series_in(folder: Path) -> dict[str, list[Path]]:
    """The image series in a folder (not in folders below it): unique series ID -> files in slice order."""
    reader = sitk.ImageSeriesReader()
    try:
        found = reader.GetGDCMSeriesIDs(str(folder))
        return {name: [Path(file) for file in reader.GetGDCMSeriesFileNames(str(folder), name)] for name in found}
    except RuntimeError:
        return {}


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file lies directly in the folder: by the mark `DICM` after the 128-byte preamble."""
    return any(is_dicom(file) for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith("."))


def series_files(source: Path | DicomSeries) -> list[Path]:
    """The files of a series, along the normal of its slices.

    Messages name series by number, modality and count only: descriptions and identifiers may tell who the patient is.

    Args:
        source: a series, or a folder with one.

    Raises:
        ScanError: there is no series or more than one, slices are missing or doubled, or the gantry was tilted.
    """
    if isinstance(source, DicomSeries):
        return _ordered_slices(str(source), list(source.files))
    folder = source
    if not folder.is_dir():
        raise ScanError(f"{folder} does not exist; check the path.")
    if not may_read(folder):
        raise ScanError(f"{folder} cannot be read: no permission; ask its owner, or copy it to a folder of your own.")
    series = series_in(folder)
    if not series:
        raise ScanError(f"{folder} holds no DICOM series; give a folder with one series, or an image file.")
    if len(series) > 1:
        names = ", ".join(sorted(_describe(files) for files in series.values()))
        raise ScanError(f"{folder} holds {len(series)} DICOM series ({names}); move the wanted one to its own folder.")
    return _ordered_slices(str(folder), next(iter(series.values())))


def read_series(source: Path | DicomSeries) -> sitk.Image:
    """Read a DICOM series, or the only one in a folder.

    Raises:
        ScanError: see `series_files`; or a file cannot be read.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in series_files(source)])
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise ScanError(f"{source} cannot be read as DICOM ({last_line(error)}); export the series again.") from error
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


def _ordered_slices(folder: str, files: list[Path]) -> list[Path]:
    """The files along the normal of the slices, after checking that they make up a regular grid."""
    if len(files) < 2:
        return files  # one multi-frame file: its frames are placed by the reader
    headers = [read_dicom_header(file) for file in files]
    if not all(header.HasMetaDataKey(_POSITION) and header.HasMetaDataKey(_ORIENTATION) for header in headers):
        raise ScanError(f"{folder} has slices without a position in space; export the series again as CT or MR images.")
    positions = np.array([_numbers(header, _POSITION) for header in headers])
    rows = np.array([_numbers(header, _ORIENTATION) for header in headers])
    if np.abs(rows - rows[0]).max() > 1e-3:
        raise ScanError(f"{folder} has slices of different directions (a localizer?); give parallel slices only.")
    normal = np.cross(rows[0][:3], rows[0][3:])
    order = np.argsort(positions @ normal, kind="stable")
    steps = np.diff(positions[order], axis=0)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3:
        raise ScanError(f"{folder} has two slices at one place (several time points?); give one volume only.")
    if np.abs(gaps - usual).max() > _UNEVEN * usual:
        worst = int(np.argmax(np.abs(gaps - usual)))
        raise ScanError(
            f"{folder} has unevenly spaced slices: {gaps[worst]:.2f} mm after slice {worst + 1} of {len(files)}, "
            f"{usual:.2f} mm elsewhere; add the missing slices or export the series again."
        )
    shift = np.linalg.norm(steps - np.outer(steps @ normal, normal), axis=1).max()
    if shift > _UNEVEN * usual:
        raise ScanError(
            f"{folder} was scanned with a tilted gantry; load it in Slicer, harden its transform and export the volume."
        )
    return [files[index] for index in order]


def _describe(files: list[Path]) -> str:
    try:
        header = read_dicom_header(files[0])
    except ScanError:
        return f"unreadable, {len(files)} files"
    return f"series {tag(header, _NUMBER) or '?'}: {tag(header, _MODALITY) or '?'}, {len(files)} files"


def read_dicom_header(file: Path) -> sitk.ImageFileReader:
    """Read the tags of a file.

    Raises:
        ScanError: it is no DICOM image, or damaged.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ScanError(f"{file} cannot be read as DICOM ({last_line(error)}); export the series again.") from error
    return reader


def tag(header: sitk.ImageFileReader, key: str) -> str:
    """The text of a tag; empty if it is not there."""
    return str(header.GetMetaData(key)).strip(" \0") if header.HasMetaDataKey(key) else ""


def _numbers(header: sitk.ImageFileReader, key: str) -> list[float]:
    return [float(part) for part in header.GetMetaData(key).split("\\")]


def is_dicom(file: Path) -> bool:
    """Whether it has the mark `DICM` after the 128-byte preamble."""
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
