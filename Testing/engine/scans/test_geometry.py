from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.scans.geometry import Geometry

OBLIQUE = tuple(np.array(sitk.VersorTransform((0.3, -0.2, 0.93), 0.4).GetMatrix()).tolist())


def test_of_reads_a_real_scan(scan):
    grid = Geometry.of(scan)
    assert grid.size == (34, 52, 35)
    assert grid.spacing == (1.0, 1.0, 1.0)
    assert grid.orientation == "RAS"
    assert "34x52x35 voxels of 1x1x1 mm" in grid.describe()


def test_point_and_index_agree_with_simpleitk():
    image = Geometry((5, 6, 7), (0.5, 2.0, 5.0), (10.0, -20.0, 30.0), OBLIQUE).image(np.zeros((7, 6, 5), np.uint8))
    grid = Geometry.of(image)
    for index in [(0, 0, 0), (4, 5, 6), (1.5, 2.25, 0.1)]:
        point = image.TransformContinuousIndexToPhysicalPoint(index)
        np.testing.assert_allclose(grid.point(index), point, atol=1e-9)
        np.testing.assert_allclose(grid.index(point), index, atol=1e-9)


@pytest.mark.parametrize("direction", [np.eye(3).ravel().tolist(), OBLIQUE], ids=["straight", "oblique"])
def test_along_is_what_simpleitk_makes(direction):
    grid = Geometry((5, 6, 7), (0.5, 2.0, 5.0), (10.0, -20.0, 30.0), tuple(direction))
    image = grid.image(np.zeros((7, 6, 5), np.uint8))
    for start in ("RAS", "LAS", "LPS", "PIR", "SAL", "IPL"):
        stored = sitk.DICOMOrient(image, start)
        for wanted in ("RAS", "LPS", "PIR"):
            theirs = Geometry.of(sitk.DICOMOrient(stored, wanted))
            straight = sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(wanted)
            ours = Geometry.of(stored).along(straight)
            assert ours.size == theirs.size
            assert ours.spacing == theirs.spacing
            assert ours.orientation == wanted
            np.testing.assert_allclose(ours.corners(), theirs.corners(), atol=1e-9)


def test_same_grid_and_distance():
    grid = Geometry((10, 20, 30), (0.5, 0.5, 5.0))
    assert grid.same_grid(Geometry((10, 20, 30), (0.5, 0.5, 5.0), (0.01, 0.0, 0.0)))
    assert not grid.same_grid(Geometry((10, 20, 30), (0.5, 0.5, 5.0), (0.1, 0.0, 0.0)))
    assert not grid.same_grid(Geometry((10, 20, 31), (0.5, 0.5, 5.0)))
    # A tiny error of spacing adds up over many voxels.
    assert not Geometry((512, 4, 4), (1.0, 1.0, 1.0)).same_grid(Geometry((512, 4, 4), (1.001, 1.0, 1.0)))
    assert grid.distance(Geometry((10, 20, 30), (0.5, 0.5, 5.0), (3.0, 4.0, 0.0))) == pytest.approx(5.0)
    assert grid.distance(grid.along((0, 0, -1, 1, 0, 0, 0, -1, 0))) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("spacing", [0.5, 0.7, 1.0, 2.3, 5.0])
def test_resized_fills_the_same_box(spacing):
    grid = Geometry((40, 41, 17), (0.5, 1.1, 5.0), (1.0, 2.0, 3.0), OBLIQUE)
    new = grid.resized((spacing,) * 3)
    np.testing.assert_allclose(new.corners().mean(axis=0), grid.corners().mean(axis=0), atol=1e-9)
    # Rounding to whole voxels moves a face by at most half of half a voxel.
    extents = np.array(new.size) * spacing, np.array(grid.size) * grid.spacing
    np.testing.assert_array_less(np.abs(extents[0] - extents[1]), spacing / 2 + 1e-9)
    assert grid.resized(grid.spacing) == grid


def test_part_keeps_places():
    grid = Geometry((8, 9, 10), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), OBLIQUE)
    part = grid.part((2, 3, 4), (3, 3, 3))
    for index in itertools.product((0, 2), repeat=3):
        np.testing.assert_allclose(part.point(index), grid.point(np.array(index) + np.array((2, 3, 4))), atol=1e-9)


def test_json_round_trip():
    grid = Geometry((8, 9, 10), (0.9765625, 2.0, 3.3), (5.0, 6.0, -7.5), OBLIQUE)
    assert Geometry.from_json(json.loads(json.dumps(grid.to_json()))) == grid
