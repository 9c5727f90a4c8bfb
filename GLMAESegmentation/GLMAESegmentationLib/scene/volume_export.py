"""A volume node as an image file of a case, in the volume's local coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from glmae.errors import ScanError
from glmae.files import writing

from .local_frame import (
    LPS_FROM_RAS,
    free_of_shear,
    image_matrix,
    matrix_between,
    matrix_of,
    same_frame,
    transform_between,
    volume_grid,
    volume_matrix,
)
from .region_box import Box


def export_volume(volume: Any, path: Path, frame: Any | None = None, box: Box | None = None) -> None:
    """Write `volume` to `path` (.nrrd), whole or not at all; the node is not touched.

    Args:
        volume: a vtkMRMLScalarVolumeNode with one value a voxel.
        path: the file to write.
        frame: the volume in whose local coordinates the file stands; `volume` itself when None. A further channel of a
            case is written in the frame of the first.
        box: write only this part, see `region_box`; None: all of it.

    Raises:
        ScanError: the volume has no voxels, several values a voxel, or a sheared grid.
        StorageError: the file cannot be written.
    """
    image = volume_image(volume, frame)
    if box is not None:
        start = volume.GetImageData().GetExtent()[::2]
        image = sitk.RegionOfInterest(
            image, [high - low for low, high in box], [low - first for (low, _), first in zip(box, start, strict=True)]
        )
    # Uncompressed: packing a large CT takes seconds, in which Slicer would stand still, and job folders are temporary.
    writing(path, lambda temporary: sitk.WriteImage(image, str(temporary), useCompression=False))


def volume_image(volume: Any, frame: Any | None = None) -> sitk.Image:
    """`volume` as a SimpleITK image (LPS mm), voxel values and array order unchanged; see `export_volume`."""
    _check(volume)
    if frame is None or same_frame(volume, frame):
        return _oriented(volume.GetImageData(), volume_matrix(volume), volume.GetName())
    matrix = matrix_between(volume, frame)
    if matrix is not None and free_of_shear(matrix @ volume_matrix(volume)):
        return _oriented(volume.GetImageData(), matrix @ volume_matrix(volume), volume.GetName())
    return _resampled(volume, frame)


def _check(volume: Any) -> None:
    data = volume.GetImageData()
    if data is None or data.GetNumberOfPoints() == 0 or data.GetPointData().GetScalars() is None:
        raise ScanError(f'Scan "{volume.GetName()}" holds no voxels; load it again or set it to Ignore.')
    if data.GetNumberOfScalarComponents() != 1:
        raise ScanError(
            f'Scan "{volume.GetName()}" has {data.GetNumberOfScalarComponents()} values a voxel (color or vector); '
            "convert it to a scalar volume (module Vector to Scalar Volume)."
        )


def _oriented(data: Any, ijk_to_ras: np.ndarray, name: str) -> sitk.Image:
    """A SimpleITK image from vtkImageData and its index-to-space matrix."""
    if not free_of_shear(ijk_to_ras):
        raise ScanError(
            f'Scan "{name}" has a sheared voxel grid, which image files cannot hold; '
            "resample it onto a rectangular grid (module Resample Image) and use that."
        )
    columns, rows, slices = data.GetDimensions()
    image = sitk.GetImageFromArray(vtk_to_numpy(data.GetPointData().GetScalars()).reshape(slices, rows, columns))
    ijk_to_lps = LPS_FROM_RAS @ ijk_to_ras
    first = np.array([*data.GetExtent()[::2], 1.0])  # image data may start at another index than 0
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((ijk_to_lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((ijk_to_lps @ first)[:3].tolist())
    return image


def _resampled(volume: Any, frame: Any) -> sitk.Image:
    """`volume` on the grid of `frame`, linear interpolation, through a warp or a shear between the two."""
    source = slicer.vtkOrientedImageData()
    source.ShallowCopy(volume.GetImageData())
    source.SetImageToWorldMatrix(matrix_of(volume_matrix(volume)))
    target = slicer.vtkOrientedImageData()
    background = float(volume.GetImageData().GetScalarRange()[0])
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        source, volume_grid(frame), target, True, False, transform_between(volume, frame), background
    )
    return _oriented(target, image_matrix(target), volume.GetName())
