"""A DICOM series in, an image out: one even stack of slices, or of frames of files that hold several (enhanced CT, MR).

Only the geometry and the voxels are taken from the files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..files import check_name, itk_path, last_line, may_read, shown
from .dicom import POSITION, DicomSeries, holds_dicom, read_dicom_header, series_in, tag
from .geometry import Geometry

_AGAIN = "export the series again as CT or MR images"
# Transfer syntaxes without compression of the voxels.
_PLAIN = tuple(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
# Positions are written with few digits; a missing slice changes a distance by far more.
_UNEVEN = 0.05
_SAME_PLACE = 1e-3  # mm
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3  # of the spacing
_ORIENTATION, _SPACING, _SLOPE, _INTERCEPT, _INSTANCE = "0020|0037", "0028|0030", "0028|1053", "0028|1052", "0008|0018"
_WANTED = {
    POSITION: "the three numbers of a position",
    _ORIENTATION: "the six numbers of an orientation",
    _SPACING: "the two numbers of the pixel spacing",
    _SLOPE: "the slope of the gray values",
    _INTERCEPT: "the intercept of the gray values",
}


def read_series(source: Path | DicomSeries) -> sitk.Image:
    """Read a DICOM series, or the only one in a folder.

    Raises:
        ScanError: see `series_files`; or a file cannot be read.
    """
    files, headers = _slices(source)
    for file in files:
        _check_pixels(file)
    if not headers:
        return _read_frames(str(source), files)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([itk_path(file) for file in files])
    if len({header.GetPixelID() for header in headers}) > 1:
        # The reader gives all slices the type of the first, which need not hold what the others' slopes make of them.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(str(source), files[0], error) from error
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


def series_files(source: Path | DicomSeries) -> list[Path]:
    """The files of a series, along the normal of its slices; in no order where they hold frames.

    Messages name series by number, modality and count only: descriptions and identifiers may tell who the patient is.

    Args:
        source: a series, or a folder with one. Segmentations, plans and reports that lie there, too, are no scans.

    Raises:
        ScanError: there is no series or more than one, or its slices make no even stack (see `_stack_order`).
    """
    return _slices(source)[0]


def frame_order(name: str, dataset: Any) -> np.ndarray:
    """The frames of a file that was read, in the order in which their slices are."""
    positions, orientations, spacings, _ = _frames(name, dataset)
    return _stack_order(name, positions, orientations, spacings, kind="frame")


def _stack_order(
    name: str,
    positions: np.ndarray,
    orientations: np.ndarray,
    spacings: np.ndarray,
    sources: Sequence[tuple[str, str]] = (),
    kind: str = "slice",
) -> np.ndarray:
    """The order of slices along their normal, after checking that they make up a regular grid.

    Args:
        positions: centers of the first voxels, LPS mm, [n, 3].
        orientations: unit vectors along rows (I) and columns (J), LPS, [n, 6].
        spacings: between rows (J) and between columns (I), mm, [n, 2].
        sources: of each slice its identifier, which its copies share, and its file, for messages.
        kind: what a slice is called in messages.

    Raises:
        ScanError: the slices have no size, differ in size or direction, are missing or doubled, or lie aslant.
    """
    again = "export the series again"
    if spacings.min() <= 0:
        raise ScanError(f"{name} has no pixel spacing, so its size in mm is not known; {again} as CT or MR images.")
    if np.abs(spacings - spacings[0]).max() > _SAME_SPACING * spacings[0].max():
        raise ScanError(f"{name} has {kind}s of different pixel spacing; give {kind}s of one spacing only.")
    if np.abs(orientations - orientations[0]).max() > _SAME_DIRECTION:
        raise ScanError(f"{name} has {kind}s of different directions (a localizer?); give parallel {kind}s only.")
    row, column = orientations[0][:3], orientations[0][3:]
    if np.abs(np.array([row @ row - 1, column @ column - 1, row @ column])).max() > 0.01:
        raise ScanError(f"{name} has {kind}s whose rows and columns are not at right angles; {again}.")
    normal = np.cross(row, column)
    order = np.argsort(positions @ normal, kind="stable")
    if len(order) < 2:
        return order
    steps = np.diff(positions[order], axis=0)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    if gaps.min() < _SAME_PLACE:
        for at in np.flatnonzero(gaps < _SAME_PLACE) if sources else ():
            (one, first), (two, second) = sorted((sources[i] for i in order[at : at + 2]), key=lambda s: len(s[1]))
            if one == two:
                raise ScanError(f"{name}: {second} is a copy of {first}; remove the copy.")
        raise ScanError(f"{name} has two {kind}s at one place (several time points?); give one volume only.")
    if np.abs(gaps - usual).max() > _UNEVEN * usual:
        worst = int(np.argmax(np.abs(gaps - usual)))
        raise ScanError(
            f"{name} has unevenly spaced {kind}s: {gaps[worst]:.2f} mm after {kind} {worst + 1} of {len(order)}, "
            f"{usual:.2f} mm elsewhere; add the missing {kind}s or {again}."
        )
    shift = np.linalg.norm(steps - np.outer(gaps, normal), axis=1).max()
    if shift > _UNEVEN * usual:
        raise ScanError(
            f"{name} was scanned with a tilted gantry; load it in Slicer, harden its transform and export the volume."
        )
    return order


def _slices(source: Path | DicomSeries) -> tuple[list[Path], list[sitk.ImageFileReader]]:
    """The files along the normal of the slices, which make up a regular grid, and their headers.

    Without headers, and in no order, where files tell by frames where they lie.
    """
    series = source if isinstance(source, DicomSeries) else _only_series(source)
    name, files = str(source), list(series.files)
    headers = [read_dicom_header(file) for file in files]
    placed = [bool(tag(header, POSITION) and tag(header, _ORIENTATION)) for header in headers]
    framed = [math.prod(header.GetSize()[2:]) > 1 for header in headers]
    if any(framed) and any(place and not frames for place, frames in zip(placed, framed, strict=True)):
        raise ScanError(f"{name} holds files of one slice and files of many; keep one kind in it.")
    if not any(placed) or any(framed):
        return files, []
    if not all(placed):
        raise ScanError(f"{name} has slices without a position in space; {_AGAIN}.")
    for header in headers:
        for key in (_SLOPE, _INTERCEPT):
            if tag(header, key):
                _numbers(header, key, 1)
    order = _stack_order(
        name,
        np.array([_numbers(header, POSITION, 3) for header in headers]),
        np.array([_numbers(header, _ORIENTATION, 6) for header in headers]),
        np.array([_numbers(header, _SPACING, 2) if tag(header, _SPACING) else [0.0, 0.0] for header in headers]),
        [(tag(header, _INSTANCE), file.name) for header, file in zip(headers, files, strict=True)],
    )
    return [files[index] for index in order], [headers[index] for index in order]


def _only_series(folder: Path) -> DicomSeries:
    if not folder.is_dir():
        raise ScanError(f"{shown(folder)} does not exist; check the path.")
    check_name(folder)
    if not may_read(folder):
        raise ScanError(f"{folder} cannot be read: no permission; ask its owner, or copy it to a folder of your own.")
    tree = series_in(folder)
    found = list(tree.series.values())
    if not found and holds_dicom(folder):
        said = [text.removeprefix(str(folder)).lstrip(" :/\\") for text in (*tree.passed_over, *tree.unreadable)]
        why = "; ".join(re.sub(r"^\((.*?)\): ", r"\1, ", text) for text in said[:3])
        raise ScanError(
            f"{folder} holds DICOM files, but none with a picture that is a scan and can be read"
            f"{f' ({why})' if why else ''}; export the series again as CT or MR images."
        )
    if not found:
        raise ScanError(f"{folder} holds no DICOM series; give a folder with one series, or an image file.")
    if len(found) > 1:
        names = ", ".join(sorted(str(series).removeprefix(f"{folder} ").strip("()") for series in found))
        raise ScanError(f"{folder} holds {len(found)} DICOM series ({names}); move the wanted one to its own folder.")
    return found[0]


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


def _read_frames(name: str, files: Sequence[Path]) -> sitk.Image:
    """Read files whose frames together make one even stack. Each frame lies where its own position says.

    Args:
        files: with all of its frames, in any order.

    Raises:
        ScanError: they are no such files, or damaged, or the frames make no even stack (see `_stack_order`).
    """
    import pydicom  # here, because little else needs it

    frames, voxels = [], []
    try:
        for file in files:
            dataset = pydicom.dcmread(file, force=True, defer_size=4096)
            frames.append(_frames(name, dataset))
            voxels.append(_voxels(file, dataset, frames[-1][3]))
        positions, orientations, spacings, _ = map(np.concatenate, zip(*frames, strict=True))
        stack = np.concatenate(voxels)
        if stack.ndim != 3 or len(stack) != len(positions):
            raise ScanError(
                f"{name} has several values a voxel (a color picture?); convert it to one gray value a voxel."
            )
        order = _stack_order(name, positions, orientations, spacings, kind="frame")
    except ScanError:
        raise
    except Exception as error:  # whatever a damaged file makes of its numbers and sequences
        raise _unreadable(name, file, error) from error
    row, column = orientations[0][:3], orientations[0][3:]
    normal, first, last = np.cross(row, column), positions[order[0]], positions[order[-1]]
    gap = (last - first) @ normal / max(1, len(order) - 1) or 1.0
    spacing, axes = (spacings[0][1], spacings[0][0], gap), np.stack([row, column, normal], axis=1)
    return Geometry.from_arrays(stack.shape[::-1], spacing, first, axes).image(stack[order])


def _unreadable(name: str, file: Path, error: Exception) -> ScanError:
    """What is said where the pictures of a series cannot be read, also that they are packed in an unknown way."""
    import pydicom

    with suppress(Exception):
        syntax = pydicom.dcmread(file, stop_before_pixels=True, force=True).file_meta.TransferSyntaxUID
        if syntax not in _PLAIN:
            return ScanError(
                f"{name} is compressed in a way that is not read ({syntax.name}), or damaged; decompress it, or load "
                "it in Slicer and save the volume."
            )
    return ScanError(f"{name} cannot be read as DICOM ({last_line(error)}); {_AGAIN}.")


def _voxels(file: Path, dataset: Any, scales: np.ndarray) -> np.ndarray:
    """The voxels [frames, rows, columns] with slope and intercept of each frame applied."""
    if (scales == scales[0]).all():
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(itk_path(file), imageIO="GDCMImageIO"))
        return voxels if voxels.ndim > 2 else voxels[None]
    # GDCM gives all frames the slope of the first.
    stored = dataset.pixel_array.astype(np.float32).reshape(len(scales), dataset.Rows, dataset.Columns)
    return np.asarray(stored * scales[:, :1, None] + scales[:, 1:, None], dtype=np.float32)


def _frames(name: str, dataset: Any) -> list[np.ndarray]:
    """Of each frame: position [n, 3], orientation [n, 6], spacing [n, 2], slope and intercept [n, 2]."""
    lost = f"{name} has slices without a position in space; load it in Slicer and save the volume."
    if "PerFrameFunctionalGroupsSequence" not in dataset:  # as of nuclear medicine
        raise ScanError(lost)
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or [None]))
    rows: list[list[Any]] = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        position = _group("PlanePositionSequence", frame, shared).get("ImagePositionPatient")
        orientation = _group("PlaneOrientationSequence", frame, shared).get("ImageOrientationPatient")
        if not position or not orientation:
            raise ScanError(lost)
        spacing = _group("PixelMeasuresSequence", frame, shared).get("PixelSpacing") or [0, 0]
        scale = _group("PixelValueTransformationSequence", frame, shared)
        scales = [scale.get("RescaleSlope", 1) or 1, scale.get("RescaleIntercept", 0) or 0]
        rows.append([position, orientation, spacing, scales])
    if len(rows) != (count := int(dataset.get("NumberOfFrames") or 1)):
        raise ScanError(f"{name} has {count} frames and says of {len(rows)} where they lie; {_AGAIN}.")
    return [np.array(column, dtype=float) for column in zip(*rows, strict=True)]


def _group(name: str, *places: Any) -> Any:
    """The item of a functional group, of the frame or of all; an empty one if neither has it."""
    return next((place[name][0] for place in places if place is not None and place.get(name)), {})
