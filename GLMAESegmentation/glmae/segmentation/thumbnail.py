"""A picture of a result: three slices of the scan with its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..files import itk_path, writing
from ..scans.classes import ClassTable
from ..scans.geometry import Geometry, reordered
from ..scans.normalization import sampled
from ..scans.resampling import resample, smoothed

SIDE = 220  # pixels of the square that a slice fits in
_BACKGROUND = (22, 24, 29)
# Axial, coronal, sagittal: what points to the right, down and away. As in Slicer: the patient's left is on the right.
_VIEWS = ("LPI", "LIP", "PIL")


def draw_thumbnail(path: Path, image: sitk.Image, labels: sitk.Image, classes: ClassTable) -> None:
    """Write the axial, coronal and sagittal slices with the most labeled voxels, side by side, as a PNG.

    Args:
        labels: label map with the values of `classes` on the same grid.

    Raises:
        StorageError: it cannot be written.
    """
    colors = np.zeros((max(classes.values, default=0) + 1, 3))
    for entry in classes.with_colors():
        assert entry.color is not None
        colors[entry.value] = entry.color
    low, high = np.percentile(sampled(sitk.GetArrayViewFromImage(image), 500_000), [1, 99.5])
    labeled = sitk.GetArrayViewFromImage(labels) != 0
    picture = np.full((SIDE, 3 * SIDE, 3), _BACKGROUND, dtype=np.uint8)
    for number, view in enumerate(_VIEWS):
        direction = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(view)
        axis = int(np.abs(Geometry.of(image).order(direction))[:, 2].argmax())
        area = labeled.sum(axis=tuple(2 - other for other in range(3) if other != axis))
        at = int(area.argmax()) if area.any() else len(area) // 2
        plane = tuple(slice(at, at + 1) if other == axis else slice(None) for other in range(3))
        cut = image[plane]
        native = Geometry.of(cut).along(direction)
        pixel = max(native.size[side] * native.spacing[side] for side in range(2)) / SIDE
        grid = native.resized((pixel, pixel, native.spacing[2]))
        seen = resample(smoothed(reordered(cut, native), grid), grid, outside=None)
        kinds = resample(reordered(labels[plane], native), grid, sitk.sitkNearestNeighbor, outside=None)
        gray = np.clip((sitk.GetArrayFromImage(seen)[0] - low) / max(high - low, 1e-6), 0, 1)
        painted = _painted(gray, sitk.GetArrayFromImage(kinds)[0], colors)
        top, left = (SIDE - painted.shape[0]) // 2, number * SIDE + (SIDE - painted.shape[1]) // 2
        picture[top : top + painted.shape[0], left : left + painted.shape[1]] = painted
    drawn = sitk.GetImageFromArray(picture, isVector=True)
    writing(path, lambda temporary: sitk.WriteImage(drawn, itk_path(temporary)))


def _painted(gray: np.ndarray, numbers: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """The slice in gray (0-1), its classes tinted and with strong outlines: uint8 [height, width, 3]."""
    edge = ndimage.minimum_filter(numbers, 3) != numbers
    strength = np.where(numbers > 0, np.where(edge, 0.9, 0.3), 0.0)[..., None]
    return np.asarray(255 * (gray[..., None] * (1 - strength) + colors[numbers] * strength)).astype(np.uint8)
