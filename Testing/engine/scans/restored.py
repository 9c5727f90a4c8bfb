"""Class probabilities of a prepared scan, brought back to the scan."""

import numpy as np
import SimpleITK as sitk

from glmae.scans.geometry import Geometry
from glmae.scans.restoring import interpolated_classes, restore_classes


def restore_labels(probabilities: np.ndarray, grid: Geometry, scan: sitk.Image | Geometry, values) -> sitk.Image:
    """The label map on the grid of the scan, of probabilities [n + 1, I, J, K] on the grid of the prepared scan."""
    source = Geometry.of(scan) if isinstance(scan, sitk.Image) else scan
    native = source.along(grid.direction)
    return restore_classes(interpolated_classes([(0, probabilities)], grid, native), native, source, values)
