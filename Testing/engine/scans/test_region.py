from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError
from glmae.scans.annotated_part import known_part
from glmae.scans.geometry import Geometry
from glmae.scans.region import Region

GRID = Geometry((6, 7, 8), (1.0, 1.0, 2.0))


def test_slices_and_box_count_in_the_image():
    slices = known_part(Region.from_json({"slices": {"axis": "i", "indices": [0, 5]}}, "a", None), "a", GRID)
    assert slices.shape == (8, 7, 6)
    assert slices[:, :, [0, 5]].all()
    assert not slices[:, :, 1:5].any()
    box = known_part(Region.from_json({"box": [[1, 2], [0, 7], [3, 5]]}, "a", None), "a", GRID)
    assert box.sum() == 1 * 7 * 2
    assert box[3:5, :, 1].all()


def test_mask_on_the_grid_of_the_scan(save, scan):
    grid = Geometry.of(scan)
    mask = sitk.Cast(scan > 20, sitk.sitkUInt8)
    path = save(mask, "where.nii.gz")
    known = known_part(Region(mask=path), "a", grid)
    np.testing.assert_array_equal(known, sitk.GetArrayFromImage(mask) > 0)
    turned = save(sitk.DICOMOrient(mask, "LPS"), "turned.nii.gz")
    np.testing.assert_array_equal(known_part(Region(mask=turned), "a", grid), known)


def test_outside_of_the_scan(save, said, scan):
    with pytest.raises(ScanError, match="slice 8") as caught:
        known_part(Region(axis=2, slices=(8,)), "case 7", GRID)
    said(caught, "case 7")
    with pytest.raises(ScanError, match="ends at 9") as caught:
        known_part(Region(box=((0, 1), (0, 1), (0, 9))), "case 7", GRID)
    said(caught, "case 7")
    path = save(scan > 20, "elsewhere.nii.gz")
    with pytest.raises(ScanError, match="does not lie") as caught:
        known_part(Region(mask=path), "case 7", GRID)
    said(caught, path)
    with pytest.raises(ScanError, match="does not exist"):
        known_part(Region(mask=path.with_name("gone.nii.gz")), "case 7", GRID)
