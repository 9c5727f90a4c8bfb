"""A folder with one DICOM series in, an image out. Only the geometry and the voxels are taken from the files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..files import check_name, decoded, has_utf8_name, itk_path, last_line, may_read, shown
from .multi_frame import read_frames, stack_order, unreadable

_POSITION, _ORIENTATION, _NUMBER, _MODALITY = "0020|0032", "0020|0037", "0020|0011", "0008|0060"
_SPACING, _SLOPE, _INTERCEPT, _INSTANCE = "0028|0030", "0028|1053", "0028|1052", "0008|0018"
_WANTED = {
    _POSITION: "the three numbers of a position",
    _ORIENTATION: "the six numbers of an orientation",
    _SPACING: "the two numbers of the pixel spacing",
    _SLOPE: "the slope of the gray values",
    _INTERCEPT: "the intercept of the gray values",
}
# What a reader takes for images, but is made from them, or is a plan or a report.
NO_SCANS = frozenset({"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTIMAGE", "SR", "PR", "KO", "REG", "DOC"})


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
        return f"{self.folder} (series {self.number}: {self.modality}, {len(self.files)} files)"


def series_in(folder: Path) -> dict[str, list[Path]]:
    """The image series in a folder (not in folders below it): unique series ID -> files in slice order."""
    reader = sitk.ImageSeriesReader()
    if not has_utf8_name(folder):
        return {}
    try:
        found = reader.GetGDCMSeriesIDs(str(folder))
        return {name: [Path(file) for file in reader.GetGDCMSeriesFileNames(str(folder), name)] for name in found}
    except RuntimeError:
        return {}


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


def series_files(source: Path | DicomSeries) -> list[Path]:
    """The files of a series, along the normal of its slices; in no order where they hold frames.

    Messages name series by number, modality and count only: descriptions and identifiers may tell who the patient is.

    Args:
        source: a series, or a folder with one. Segmentations, plans and reports that lie there, too, are no scans.

    Raises:
        ScanError: there is no series or more than one, or its slices make no even stack (see `stack_order`).
    """
    return _slices(source).files


@dataclass(frozen=True)
class _Slices:
    """The files of a series along the normal; `framed`: in no order, because each tells by frames where it lies."""

    files: list[Path]
    one_type: bool = True
    framed: bool = False


def _slices(source: Path | DicomSeries) -> _Slices:
    if isinstance(source, DicomSeries):
        return _ordered_slices(str(source), list(source.files))
    folder = source
    if not folder.is_dir():
        raise ScanError(f"{shown(folder)} does not exist; check the path.")
    check_name(folder)
    if not may_read(folder):
        raise ScanError(f"{folder} cannot be read: no permission; ask its owner, or copy it to a folder of your own.")
    series = [files for files in series_in(folder).values() if modality_of(files[0]) not in NO_SCANS]
    if not series and holds_dicom(folder):
        raise ScanError(
            f"{folder} holds DICOM files, but none with a picture that is a scan and can be read; export the series "
            "again as CT or MR images."
        )
    if not series:
        raise ScanError(f"{folder} holds no DICOM series; give a folder with one series, or an image file.")
    if len(series) > 1:
        names = ", ".join(sorted(_describe(files) for files in series))
        raise ScanError(f"{folder} holds {len(series)} DICOM series ({names}); move the wanted one to its own folder.")
    return _ordered_slices(str(folder), series[0])


def read_series(source: Path | DicomSeries) -> sitk.Image:
    """Read a DICOM series, or the only one in a folder.

    Raises:
        ScanError: see `series_files`; or a file cannot be read.
    """
    slices = _slices(source)
    for file in slices.files:
        _check_pixels(file)
    if slices.framed:
        return read_frames(str(source), slices.files)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([itk_path(file) for file in slices.files])
    if not slices.one_type:
        # The reader gives all slices the type of the first, which need not hold what the others' slopes make of them.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise unreadable(str(source), slices.files[0], error) from error
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


def _check_pixels(file: Path) -> None:
    """Refuse a picture that ends too soon: its reader takes for the rest whatever lies in memory.

    Raises:
        ScanError: it has fewer bytes than its size says.
    """
    import pydicom

    wanted = ["PixelData", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames"]
    try:
        data = pydicom.dcmread(file, specific_tags=wanted, defer_size=256, force=True)
        pixels = data.get_item("PixelData", keep_deferred=True)
        size = data.Rows * data.Columns * int(data.get("NumberOfFrames") or 1) * data.BitsAllocated // 8
        short = data.get("SamplesPerPixel", 1) == 1 and pixels.length < size
    except Exception:  # its reader knows better what is wrong
        return
    if short:
        raise ScanError(f"{file} is incomplete, the end of its picture is missing; copy or export it again.")


def _ordered_slices(name: str, files: list[Path]) -> _Slices:
    """The files along the normal of the slices, after checking that they make up a regular grid."""
    headers = [read_dicom_header(file) for file in files]
    placed = [bool(tag(header, _POSITION) and tag(header, _ORIENTATION)) for header in headers]
    if not any(placed) or any(math.prod(header.GetSize()[2:]) > 1 for header in headers):
        return _Slices(files, framed=True)
    if not all(placed):
        raise ScanError(f"{name} has slices without a position in space; export the series again as CT or MR images.")
    for header in headers:
        for key in (_SLOPE, _INTERCEPT):
            if tag(header, key):
                _numbers(header, key, 1)
    order = stack_order(
        name,
        np.array([_numbers(header, _POSITION, 3) for header in headers]),
        np.array([_numbers(header, _ORIENTATION, 6) for header in headers]),
        np.array([_numbers(header, _SPACING, 2) if tag(header, _SPACING) else [0.0, 0.0] for header in headers]),
        [(tag(header, _INSTANCE), file.name) for header, file in zip(headers, files, strict=True)],
    )
    return _Slices([files[index] for index in order], len({header.GetPixelID() for header in headers}) == 1)


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


def _numbers(header: sitk.ImageFileReader, key: str, count: int) -> list[float]:
    """The numbers of a tag.

    Raises:
        ScanError: they are not `count` numbers.
    """
    text = tag(header, key)
    try:
        numbers = [float(part) for part in text.split("\\")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        name = shown(header.GetFileName())
        raise ScanError(f"{name} has {text!r} where DICOM wants {_WANTED[key]}; export the series again.")
    return numbers


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
