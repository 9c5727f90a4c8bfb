"""Slices of DICOM in space: whether they make one even stack, and files with all slices (enhanced, nuclear)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..files import itk_path, last_line
from .geometry import Geometry

_AGAIN = "export the series again as CT or MR images"
# Transfer syntaxes without compression of the voxels.
_PLAIN = tuple(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
# Positions are written with few digits; a missing slice changes a distance by far more.
_UNEVEN = 0.05
_SAME_PLACE = 1e-3  # mm
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3  # of the spacing


def stack_order(
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


def stack_grid(
    size: tuple[int, int], positions: np.ndarray, orientation: np.ndarray, spacing: np.ndarray, thickness: float
) -> Geometry:
    """The grid of ordered slices.

    Args:
        size: voxels along I and J.
        positions: see `stack_order`, in that order.
        orientation: of all slices, [6].
        spacing: of all slices, between rows and between columns.
        thickness: mm along K where there is one slice.
    """
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    gap = float((positions[-1] - positions[0]) @ normal) / (len(positions) - 1) if len(positions) > 1 else thickness
    axes = np.stack([row, column, normal], axis=1)
    return Geometry.from_arrays((*size, len(positions)), (spacing[1], spacing[0], gap), positions[0], axes)


def read_frames(name: str, files: Sequence[Path]) -> sitk.Image:
    """Read files whose frames together make one even stack. Each frame lies where its own position says.

    Args:
        files: with all of its frames, in any order.

    Raises:
        ScanError: they are no such files, or damaged, or the frames make no even stack (see `stack_order`).
    """
    import pydicom  # here, because little else needs it

    frames, voxels, thickness = [], [], 1.0
    try:
        for file in files:
            dataset = pydicom.dcmread(file, force=True, defer_size=4096)
            frames.append(_frames(name, dataset))
            voxels.append(_voxels(file, dataset, frames[-1][3]))
            thickness = float(dataset.get("SliceThickness") or thickness)
        positions, orientations, spacings, _ = map(np.concatenate, zip(*frames, strict=True))
        stack = np.concatenate(voxels)
    except ScanError:
        raise
    except Exception as error:  # whatever a damaged file makes of its numbers and sequences
        raise unreadable(name, file, error) from error
    if stack.ndim != 3 or len(stack) != len(positions):
        raise ScanError(f"{name} has several values a voxel (a color picture?); convert it to one gray value a voxel.")
    order = stack_order(name, positions, orientations, spacings, kind="frame")
    grid = stack_grid(stack.shape[:0:-1], positions[order], orientations[0], spacings[0], thickness)
    return grid.image(stack[order])


def frame_order(name: str, dataset: Any) -> np.ndarray:
    """The frames of a file in the order of `read_frames`.

    Raises:
        ScanError: see `read_frames`.
    """
    try:
        return stack_order(name, *_frames(name, dataset)[:3], kind="frame")
    except (ValueError, TypeError) as error:
        raise ScanError(f"{name} cannot be read as DICOM ({last_line(error)}); {_AGAIN}.") from error


def unreadable(name: str, file: Path, error: Exception) -> ScanError:
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


def _frames(name: str, dataset: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each frame: position [n, 3], orientation [n, 6], spacing [n, 2], slope and intercept [n, 2]."""
    count = int(dataset.get("NumberOfFrames") or 1)
    if count == 1 and dataset.get("ImagePositionPatient") and dataset.get("ImageOrientationPatient"):
        scale = [float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)]
        spacing = dataset.get("PixelSpacing") or [0, 0]
        return _arrays([[dataset.ImagePositionPatient, dataset.ImageOrientationPatient, spacing, scale]])
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return _nuclear(name, dataset, count)
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or [None]))
    rows: list[list[Any]] = []
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        position = _group("PlanePositionSequence", frame, shared)
        orientation = _group("PlaneOrientationSequence", frame, shared)
        measures = _group("PixelMeasuresSequence", frame, shared)
        scale = _group("PixelValueTransformationSequence", frame, shared)
        if not position.get("ImagePositionPatient") or not orientation.get("ImageOrientationPatient"):
            raise ScanError(f"{name} has slices without a position in space; {_AGAIN}.")
        rows.append(
            [
                position.ImagePositionPatient,
                orientation.ImageOrientationPatient,
                measures.get("PixelSpacing") or [0, 0],
                [float(scale.get("RescaleSlope", 1) or 1), float(scale.get("RescaleIntercept", 0) or 0)],
            ]
        )
    if len(rows) != count:
        raise ScanError(f"{name} has {count} frames and says of {len(rows)} where they lie; {_AGAIN}.")
    return _arrays(rows)


def _nuclear(name: str, dataset: Any, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nuclear medicine says where the first slice lies and how far apart they are, possibly downwards."""
    detector = next(iter(dataset.get("DetectorInformationSequence") or [None]))
    order, gap = dataset.get("SliceVector"), dataset.get("SpacingBetweenSlices")
    if detector is None or not detector.get("ImagePositionPatient") or order is None or not gap:
        raise ScanError(f"{name} has slices without a position in space; {_AGAIN}.")
    orientation = [float(part) for part in detector.get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0]]
    normal = np.cross(orientation[:3], orientation[3:])
    first = np.array([float(part) for part in detector.ImagePositionPatient])
    places = [first + (int(number) - 1) * float(gap) * normal for number in np.atleast_1d(order)]
    if len(places) != count:
        raise ScanError(f"{name} has {count} frames and says of {len(places)} where they lie; {_AGAIN}.")
    scale = [float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)]
    spacing = dataset.get("PixelSpacing") or [0, 0]
    return _arrays([[place, orientation, spacing, scale] for place in places])


def _arrays(rows: list[list[Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    columns = zip(*rows, strict=True)
    positions, orientations, spacings, scales = (np.array([list(map(float, x)) for x in column]) for column in columns)
    return positions, orientations, spacings, scales


def _group(name: str, *places: Any) -> Any:
    """The item of a functional group, of the frame or of all; an empty one if neither has it."""
    return next((place[name][0] for place in places if place is not None and place.get(name)), {})
