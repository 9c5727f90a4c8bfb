from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.geometry import Geometry
from glmae.scans.resampling import bounding_box, covered, interpolated, resample, resample_smoothly, smoothed


def test_resample_agrees_with_simpleitk_in_world_coordinates(scan):
    grid = Geometry.of(scan).resized((1.7, 0.6, 2.0))
    theirs = sitk.Resample(
        scan, grid.image(np.zeros(grid.size[::-1], np.uint8)), sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32
    )
    ours = resample(scan, grid)
    assert Geometry.of(ours) == grid
    np.testing.assert_allclose(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs), rtol=1e-4, atol=1e-2)


def test_whole_voxel_shifts_copy_exactly(label):
    grid = Geometry.of(label).part((-3, 5, 2), (40, 30, 20))
    moved = sitk.GetArrayFromImage(resample(label, grid, sitk.sitkNearestNeighbor))
    expected = np.zeros((20, 30, 40), dtype=np.uint8)
    expected[:, :, 3:37] = sitk.GetArrayFromImage(label)[2:22, 5:35, :]
    np.testing.assert_array_equal(moved, expected)


def test_border_goes_on_or_is_filled():
    image = sitk.GetImageFromArray(np.full((4, 4, 4), 7, dtype=np.int16))
    wide = Geometry.of(image).part((-2, 0, 0), (8, 4, 4))
    assert (sitk.GetArrayFromImage(resample(image, wide, outside=None)) == 7).all()
    assert sitk.GetArrayFromImage(resample(image, wide, outside=-1))[0, 0, 0] == -1


def test_same_values_wherever_the_scan_lies(scan):
    """Ties of the nearest neighbor and rounding must not depend on origin and direction."""
    plain = Geometry.of(scan)
    far = Geometry(
        plain.size, plain.spacing, (1234.567, -987.654, 0.1), tuple(sitk.VersorTransform((0, 0, 1), 0.3).GetMatrix())
    )
    moved = sitk.Image(scan)
    far.place(moved)
    for spacing, interpolator in (((2.0, 2.0, 2.0), sitk.sitkNearestNeighbor), ((1.3, 0.7, 2.2), sitk.sitkLinear)):
        here = sitk.GetArrayFromImage(resample(scan, plain.resized(spacing), interpolator, outside=None))
        there = sitk.GetArrayFromImage(resample(moved, far.resized(spacing), interpolator, outside=None))
        np.testing.assert_array_equal(here, there)


def test_smoothing_only_where_voxels_would_be_skipped(scan):
    grid = Geometry.of(scan)
    assert smoothed(scan, grid.resized((1.4, 1.0, 0.5))) is scan
    peak = np.zeros((9, 9, 9), dtype=np.float32)
    peak[4, 4, 4] = 1
    image = sitk.GetImageFromArray(peak)
    spread = sitk.GetArrayFromImage(smoothed(image, Geometry.of(image).resized((3.0, 1.0, 1.0))))
    assert spread[4, 4, 3] > 0.05
    assert spread[4, 3, 4] == 0
    assert spread.sum() == pytest.approx(1.0, abs=0.02)


def test_box_and_part_give_the_same_as_everything():
    rng = np.random.default_rng(0)
    values = np.zeros((20, 18, 16), dtype=np.float32)
    values[5:9, 6:10, 0:5] = rng.random((4, 4, 5))
    grid = Geometry((20, 18, 16), (2.0, 1.0, 1.5))
    native = grid.resized((0.7, 1.9, 1.0))
    whole = interpolated(values, tuple((0, n) for n in values.shape), grid, tuple((0, n) for n in native.size), native)
    box = bounding_box(values > 0, margin=1)
    assert box == ((4, 10), (5, 11), (0, 6))
    part = covered(box, grid, native)
    some = interpolated(values, box, grid, part, native)
    inside = tuple(slice(low, high) for low, high in reversed(part))
    np.testing.assert_array_equal(whole[inside], some)
    whole[inside] = 0
    assert not whole.any()
    assert bounding_box(np.zeros((3, 3, 3), dtype=bool), 0) is None


@pytest.mark.parametrize("spacing", [(2.2, 2.2, 3.7), (0.8, 1.0, 0.6), (1.0, 1.0, 5.0)])
def test_slabs_are_no_different_from_the_whole(scan, monkeypatch, spacing):
    grid = Geometry.of(scan).resized(spacing)
    whole = resample_smoothly(scan, grid)
    np.testing.assert_array_equal(whole, sitk.GetArrayFromImage(resample(smoothed(scan, grid), grid, outside=None)))
    monkeypatch.setattr("glmae.scans.resampling.SLAB_VOXELS", 3 * grid.size[0] * grid.size[1])
    np.testing.assert_allclose(resample_smoothly(scan, grid), whole, rtol=1e-4, atol=1e-2)
