"""Uncertainty: means over classes, and a map on the grid of the scan, gathered slab by slab."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.geometry import Geometry
from glmae.segmentation.uncertainty import Uncertainty

GRID = Geometry((6, 8, 10), (2.0, 2.0, 2.0))


def test_means_and_map():
    rng = np.random.default_rng(0)
    largest = rng.uniform(0.4, 1.0, GRID.size).astype(np.float16)
    numbers = rng.integers(0, 3, GRID.size).astype(np.uint8)
    numbers[numbers == 2] = 0
    found = Uncertainty(GRID, 2, keep=True)
    for start in range(0, 10, 4):
        found.add(start, numbers[..., start : start + 4], largest[..., start : start + 4])
    assert found.means([7, 9]) == {7: pytest.approx((1 - largest[numbers == 1].astype(np.float64)).mean(), abs=1e-5)}
    image = found.on(GRID)
    assert image is not None
    np.testing.assert_allclose(sitk.GetArrayFromImage(image).transpose(), 100 * (1 - largest.astype(float)), atol=0.51)
    scan = GRID.resized((1.0, 1.0, 1.0)).along(np.eye(3))
    fine = found.on(scan)
    assert fine is not None
    assert Geometry.of(fine) == scan
    assert fine.GetPixelID() == sitk.sitkUInt8
    assert Uncertainty(GRID, 2, keep=False).on(scan) is None
