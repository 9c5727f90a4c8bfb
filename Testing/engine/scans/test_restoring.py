"""Back to the grid of the scan: linear interpolation and the largest, in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from restored import restore_labels

from glmae.scans.common_axes import CommonAxes
from glmae.scans.geometry import Geometry
from glmae.scans.preparation import prepare_label
from glmae.scans.restoring import interpolated_classes, restore_classes


def array(image):
    return sitk.GetArrayFromImage(image)


def one_hot(prepared, classes):
    return np.stack([prepared == number for number in range(classes + 1)]).astype(np.float32)


def test_restoring_is_linear_interpolation_and_the_largest(scan):
    """Against the plain way: every class map at full size, then argmax."""
    grid = CommonAxes().native(Geometry.of(scan)).resized((2.1, 1.7, 3.3))
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, *grid.size)) * 2
    logits[0, : grid.size[0] // 2] += 12  # half of it certainly background
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    maps = []
    for values in probabilities:
        image = sitk.GetImageFromArray(np.transpose(values))
        grid.place(image)
        inside = sitk.ResampleImageFilter()
        inside.SetReferenceImage(scan)
        inside.SetUseNearestNeighborExtrapolator(True)
        maps.append(array(inside.Execute(image)))
    expected = np.array([0, 3, 300, 7])[np.argmax(maps, axis=0)]
    restored = array(restore_labels(probabilities, grid, scan, (3, 300, 7)))
    assert restored.dtype == np.uint16
    # Equal but for ties within rounding.
    assert np.mean(restored != expected) < 1e-4


def test_restoring_nothing(scan):
    grid = CommonAxes().native(Geometry.of(scan)).resized((2.0, 2.0, 2.0))
    probabilities = np.zeros((3, *grid.size), dtype=np.float32)
    probabilities[0] = 1
    back = restore_labels(probabilities, grid, scan, (1, 2))
    assert not array(back).any()
    assert Geometry.of(back) == Geometry.of(scan)


def test_restoring_in_slabs_changes_nothing(scan, label, monkeypatch):
    grid = CommonAxes().native(Geometry.of(scan)).resized((1.6, 1.6, 1.6))
    probabilities = one_hot(prepare_label(label, grid), 2)
    whole = array(restore_labels(probabilities, grid, scan, (1, 2)))
    monkeypatch.setattr("glmae.scans.restoring.SLAB_VOXELS", 3 * 34 * 52)
    np.testing.assert_array_equal(array(restore_labels(probabilities, grid, scan, (1, 2))), whole)
    assert whole.any()


@pytest.mark.parametrize("spacing", [(1.6, 1.6, 1.6), (1.0, 1.0, 0.45), (0.7, 1.3, 2.9), (1.5, 1.0, 1.0)])
@pytest.mark.parametrize("planes", [1, 2, 7])
def test_slab_by_slab_is_the_same_as_at_once(scan, label, spacing, planes):
    """Finer and coarser than the scan, planes of both that coincide, slabs that lie between two planes of the scan."""
    grid = CommonAxes().native(Geometry.of(scan)).resized(spacing)
    rng = np.random.default_rng(2)
    probabilities = one_hot(prepare_label(label, grid), 2) + rng.uniform(size=(3, *grid.size))
    probabilities = (probabilities / probabilities.sum(axis=0)).astype(np.float16)
    whole = restore_labels(probabilities, grid, scan, (1, 2))
    slabs = ((start, probabilities[..., start : start + planes]) for start in range(0, grid.size[2], planes))
    numbers = interpolated_classes(slabs, grid, CommonAxes().native(Geometry.of(scan)))
    pieces = restore_classes(numbers, CommonAxes().native(Geometry.of(scan)), Geometry.of(scan), (1, 2))
    assert set(np.unique(array(whole))) == {0, 1, 2}
    # Equal but for ties within rounding.
    assert np.mean(array(pieces) != array(whole)) < 1e-4
    assert Geometry.of(pieces) == Geometry.of(scan)


def test_no_voxel_is_lost_at_the_edges(scan):
    """One class everywhere: it fills the scan to its last voxel, whichever the grid of the network."""
    for spacing in ((1.9, 1.9, 1.9), (0.6, 0.6, 0.6), (5.0, 0.8, 3.1)):
        grid = CommonAxes().native(Geometry.of(scan)).resized(spacing)
        probabilities = np.stack([np.full(grid.size, 0.4), np.full(grid.size, 0.6)])
        slabs = [(start, probabilities[..., start : start + 4]) for start in range(0, grid.size[2], 4)]
        assert (interpolated_classes(slabs, grid, CommonAxes().native(Geometry.of(scan))) == 1).all()
