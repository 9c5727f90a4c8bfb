from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import SimpleITK as sitk
from restored import restore_labels

from glmae.errors import ScanError
from glmae.scans.case import Case
from glmae.scans.classes import IGNORE, ClassTable
from glmae.scans.common_axes import CommonAxes
from glmae.scans.fingerprint import ClassSize, Fingerprint, Intensity
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_image
from glmae.scans.labels import read_label
from glmae.scans.preparation import (
    Normalization,
    Preparation,
    plan_preparation,
    prepare_image,
    prepare_label,
)

ORIENTATIONS = ("RAS", "LAS", "LPS", "PIR")
TURNED = tuple(sitk.VersorTransform((0.1, 1.0, 0.4), 0.35).GetMatrix())
ZSCORE = (Normalization("zscore"),)


def array(image):
    return sitk.GetArrayFromImage(image)


def one_hot(prepared, classes):
    return np.stack([prepared == number for number in range(classes + 1)]).astype(np.float32)


def overlap(one, two):
    return 2 * np.count_nonzero(one & two) / (np.count_nonzero(one) + np.count_nonzero(two))


@pytest.fixture(params=["straight", "oblique"])
def placed(request, scan, label):
    """A real scan and its label, with voxels of three sizes, straight or oblique in the scanner."""
    direction = Geometry.of(scan).direction if request.param == "straight" else TURNED
    grid = Geometry(scan.GetSize(), (0.9, 1.2, 2.5), (-31.0, 12.5, 80.25), direction)
    grid.place(scan)
    grid.place(label)
    return scan, label


@pytest.mark.parametrize("spacing", [(0.9, 1.2, 2.5), (2.5, 1.2, 0.9), (1.5, 1.5, 1.5), (3.0, 3.0, 5.0)])
def test_four_orientations_give_one_array_and_come_back(placed, save, spacing):
    scan, label = placed
    preparation = Preparation(spacing, ZSCORE)
    results = []
    for orientation in ORIENTATIONS:
        path = save(sitk.DICOMOrient(scan, orientation), f"{orientation}.nrrd")
        image = read_image(path)
        stored = sitk.DICOMOrient(label, orientation)
        prepared, grid = prepare_image([image], preparation)
        target = prepare_label(stored, grid)
        assert target.shape == prepared.shape[1:] == grid.size
        back = restore_labels(one_hot(target, 2), grid, image, (1, 2))
        assert Geometry.of(back) == Geometry.of(image), "exactly on the grid of the scan"
        results.append((prepared, target, array(sitk.DICOMOrient(back, "RAS")), grid))
    first = results[0]
    for prepared, target, back, grid in results[1:]:
        np.testing.assert_array_equal(prepared, first[0])
        np.testing.assert_array_equal(target, first[1])
        np.testing.assert_array_equal(back, first[2])
        np.testing.assert_allclose(grid.corners(), first[3].corners(), atol=1e-9)
    assert prepared.dtype == np.float32
    assert target.dtype == np.uint8


def test_axes_point_to_right_anterior_superior(placed):
    """Independently of all library calls of the code: each prepared voxel is looked up in the patient."""
    scan, _ = placed
    prepared, grid = prepare_image([sitk.DICOMOrient(scan, "PIL")], Preparation(grid_spacing(scan), ZSCORE))
    towards = np.array(grid.direction).reshape(3, 3)
    assert towards[0, 0] < -0.7, "I runs to the right: against LPS's x"
    assert towards[1, 1] < -0.7
    assert towards[2, 2] > 0.7
    values = {}
    for index in itertools.product((0, 7, 30), (1, 20, 50), (0, 18, 34)):
        there = scan.TransformPhysicalPointToIndex(grid.point(index).tolist())
        values.setdefault(scan.GetPixel(there), set()).add(float(prepared[(0, *index)]))
    # A brighter voxel stays brighter, up to the percentiles at which bright and dark are cut.
    order = sorted(values)
    assert all(max(values[a]) <= min(values[b]) for a, b in itertools.pairwise(order))
    assert len(order) > 10


def grid_spacing(scan):
    return CommonAxes().native(Geometry.of(scan)).spacing


def test_round_trip_at_the_same_spacing_is_exact(placed):
    scan, label = placed
    for orientation in ORIENTATIONS:
        image, stored = sitk.DICOMOrient(scan, orientation), sitk.DICOMOrient(label, orientation)
        prepared, grid = prepare_image([image], Preparation(grid_spacing(scan), ZSCORE))
        assert sorted(prepared.shape[1:]) == sorted(image.GetSize())
        back = restore_labels(one_hot(prepare_label(stored, grid), 2), grid, image, (1, 2))
        np.testing.assert_array_equal(array(back), array(stored))


def test_nine_orientations_in_two_formats_are_one_scan(placed, save):
    """Through the files: the same voxels reach the network, and each class comes back to its place in the patient."""
    scan, label = placed
    seen = set()
    for code in ("RAS", "LAS", "LPS", "PIR", "ASL", "IPL", "SRP", "LIA", "AIR"):
        for ending in ("nii.gz", "nrrd"):
            image = read_image(save(sitk.DICOMOrient(scan, code), f"images/{code}.{ending}"))
            path = save(sitk.DICOMOrient(label, code), f"labels/{code}.{ending}")
            case = Case(code, (), path)
            drawn = read_label(case, image, ClassTable.from_labels((1, 2)))
            prepared, grid = prepare_image([image], Preparation(grid_spacing(scan), ZSCORE))
            back = restore_labels(one_hot(prepare_label(drawn, grid), 2), grid, image, (1, 2))
            seen.add(prepared.astype(np.float16).tobytes())
            wrong = np.count_nonzero(array(sitk.DICOMOrient(back, "RAS")) != array(sitk.DICOMOrient(label, "RAS")))
            assert wrong == 0, (code, ending)
    assert len(seen) == 1
    straight = array(sitk.DICOMOrient(scan, "RAS")).transpose()  # I, J, K
    assert np.corrcoef(straight.ravel(), prepared[0].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("own", [0.5, 0.7, 1.0, 2.0, 3.0, 5.0])
def test_spacings_from_half_to_five_millimeters(save, own):
    """A ball of 30 mm in scans of different spacing, all brought to 1.5 mm."""
    size = int(60 / own)
    k, j, i = np.indices((size,) * 3)
    middle = (size - 1) / 2
    ball = (((k - middle) ** 2 + (j - middle) ** 2 + (i - middle) ** 2) * own**2 < 15**2).astype(np.uint8)
    label = sitk.GetImageFromArray(ball)
    label.SetSpacing((own,) * 3)
    image = sitk.Cast(label * 100, sitk.sitkInt16)
    prepared, grid = prepare_image([image], Preparation((1.5, 1.5, 1.5), ZSCORE))
    target = prepare_label(label, grid)
    assert target.sum() * 1.5**3 == pytest.approx(ball.sum() * own**3, rel=0.06)
    inside = prepared[0] > (prepared.max() + prepared.min()) / 2
    assert overlap(inside, target == 1) > 0.95, "image and label stay together"
    back = array(restore_labels(one_hot(target, 1), grid, image, (1,)))
    assert overlap(back == 1, ball == 1) > 0.95


def test_thin_structure_survives_coarsening():
    label = np.zeros((40, 40, 40), dtype=np.uint8)
    label[20, 5:35, 20] = 1  # one voxel thick
    label[10:30, 10:30, 30] = 2
    label[:5] = IGNORE
    image = sitk.GetImageFromArray(label)
    target = prepare_label(image, CommonAxes().native(Geometry.of(image)).resized((3.0, 3.0, 3.0)))
    for number in (1, 2):
        kept = np.count_nonzero(target == number) * 27
        assert kept == pytest.approx(np.count_nonzero(label == number), rel=0.35)
    assert (target[:, :, 0] == IGNORE).all()
    assert not (target[:, :, 3:] == IGNORE).any()


@pytest.mark.parametrize(("own", "axis"), [(1.0, 0), (1.0, 1), (1.0, 2), (4.0, 2)])
def test_single_labeled_slices_are_not_outvoted(own, axis):
    """Every fifth slice is labeled; on a coarser and on a finer grid these still say what they said."""
    label = np.full((40, 40, 40), IGNORE, dtype=np.uint8)
    slices = np.moveaxis(label, axis, 0)
    slices[::5], slices[::5, 10:30, 10:30] = 0, 1
    image = sitk.GetImageFromArray(label.transpose())
    image.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))  # RAS
    image.SetSpacing([own] * 3)
    grid = Geometry.of(image).resized((2.0, 2.0, 2.0))
    target = np.moveaxis(prepare_label(image, grid), axis, 0)
    known = (target != IGNORE).any(axis=(1, 2))
    assert all(np.unique(part).size == 1 for part in (target != IGNORE))
    assert known.sum() == 8 * max(1, own / 2)
    middle, edge = (slice(6, 14), 4) if own == 1 else (slice(22, 58), 18)
    assert (target[known][:, middle, middle] == 1).all()
    assert (target[known][:, :edge] == 0).all()


def test_single_voxel_survives_coarsening():
    label = np.zeros((30, 30, 30), dtype=np.uint8)
    label[11, 13, 17] = 1
    image = sitk.GetImageFromArray(label)
    grid = CommonAxes().native(Geometry.of(image)).resized((4.0, 4.0, 4.0))
    assert np.count_nonzero(prepare_label(image, grid) == 1) == 1


def test_zscore_is_of_the_scan_itself(scan):
    first, _ = prepare_image([scan], Preparation((1.0, 1.0, 1.0), ZSCORE))
    assert first.mean() == pytest.approx(0, abs=0.02)
    assert first.std() == pytest.approx(1, abs=0.02)
    second, _ = prepare_image([scan * 3000 + 500], Preparation((1.0, 1.0, 1.0), ZSCORE))
    np.testing.assert_allclose(second, first, atol=2e-3)


def test_zscore_does_not_mind_constant_air(scan):
    """The same anatomy in a wide frame of air is normalized the same way."""
    bright = sitk.Cast(scan, sitk.sitkFloat32) + 10
    tight, _ = prepare_image([bright], Preparation((1.0, 1.0, 1.0), ZSCORE))
    for air in (0.0, 5.0):
        framed = sitk.ConstantPad(bright, (40, 40, 40), (40, 40, 40), air)
        values = array(framed)
        values[0, 0, 0] = -3  # what a spline resampling leaves in the air
        ringing = sitk.GetImageFromArray(values)
        ringing.CopyInformation(framed)
        wide, _ = prepare_image([ringing], Preparation((1.0, 1.0, 1.0), ZSCORE))
        inner = wide[:, 40:-40, 40:-40, 40:-40]
        assert inner.std() == pytest.approx(tight.std(), rel=0.1)
        assert inner.mean() == pytest.approx(tight.mean(), abs=0.1)


def test_ct_keeps_hounsfield_units_comparable(scan):
    values = sitk.Cast(scan * 0 - 1000, sitk.sitkInt16)
    values[5:9, 5:9, 5:9] = 140
    values[20:22, 20:22, 20:22] = 3000
    prepared, _ = prepare_image([values], Preparation((1.0, 1.0, 1.0), (Normalization("ct", -200, 300, 40, 50),)))
    assert set(np.unique(prepared)) == {np.float32(-4.8), np.float32(2.0), np.float32(5.2)}


def test_channels(scan):
    preparation = Preparation((1.0, 1.0, 1.0), ZSCORE * 2)
    prepared, _ = prepare_image([scan, sitk.Sqrt(scan)], preparation)
    assert prepared.shape == (2, 34, 52, 35)
    with pytest.raises(ScanError, match="1 channels"):
        prepare_image([scan], preparation)


def test_nearly_the_planned_spacing_is_left_alone(scan):
    scan.SetSpacing((1.015, 0.99, 1.0))
    prepared, grid = prepare_image([scan], Preparation((1.0, 1.0, 1.0), ZSCORE))
    assert grid == CommonAxes().native(Geometry.of(scan))
    assert prepared.shape[1:] == scan.GetSize()


def fingerprint(sizes, spacings, diameter=None, modality="mr"):
    classes = (
        () if diameter is None else (ClassSize("a", 1, 10, 1.0, diameter), ClassSize("b", 1, 10, 1.0, diameter * 9))
    )
    return Fingerprint(tuple(sizes), tuple(spacings), (Intensity(modality, -90.0, 200.0, 50.0, 0.4),), classes, 1)


def test_plan_is_the_median_spacing():
    found = fingerprint([(100, 100, 40)] * 3, [(0.7, 0.7, 5.0), (0.8, 0.8, 2.0), (1.5, 1.5, 3.0)])
    plan = plan_preparation(found, 10**9)
    assert plan.spacing == (0.8, 0.8, 3.0)
    assert plan.normalization == ZSCORE


def test_plan_coarsens_the_finest_axis_first():
    found = fingerprint([(512, 512, 60)], [(0.7, 0.7, 5.0)])
    plan = plan_preparation(found, 4_000_000)
    assert plan.spacing[0] == plan.spacing[1] > 0.7
    assert plan.spacing[2] == 5.0
    voxels = np.prod(np.array((512, 512, 60)) * (0.7, 0.7, 5.0) / plan.spacing)
    assert voxels == pytest.approx(4_000_000, rel=0.01)
    assert len(set(plan_preparation(found, 20_000).spacing)) == 1, "all axes, once they are equal"


def test_plan_keeps_the_smallest_class_visible():
    found = fingerprint([(512, 512, 600)], [(0.7, 0.7, 0.8)], diameter=12.0)
    plan = plan_preparation(found, 2_000_000)
    assert plan.spacing == (1.5, 1.5, 1.5), "8 voxels across 12 mm"
    tiny = fingerprint([(512, 512, 600)], [(0.7, 0.7, 0.8)], diameter=2.0)
    assert plan_preparation(tiny, 2_000_000).spacing == (0.7, 0.7, 0.8)


def test_voxels_are_cubes_where_the_scan_allows_it():
    wide = fingerprint([(108, 54, 128)], [(5.0, 5.0, 2.5)], diameter=30.0)
    plan = plan_preparation(wide, 2_000_000)
    assert len(set(plan.spacing)) == 1
    assert np.prod(np.array((540.0, 270.0, 320.0)) / plan.spacing) == pytest.approx(2_000_000, rel=0.01)
    assert plan_preparation(wide, 10_000_000).spacing == (2.5, 2.5, 2.5), "not finer than the finest axis"
    thick = fingerprint([(256, 256, 36)], [(1.25, 1.25, 9.0)], diameter=60.0)
    plan = plan_preparation(thick, 2_000_000)
    assert plan.spacing[2] == 3.0, "not finer than a third"
    assert 1.25 < plan.spacing[0] == plan.spacing[1] < 3.0
    assert np.prod(np.array((320.0, 320.0, 324.0)) / plan.spacing) == pytest.approx(2_000_000, rel=0.01)
    unlabeled = fingerprint([(108, 54, 128)], [(5.0, 5.0, 2.5)])
    assert plan_preparation(unlabeled, 10**8).spacing == (5.0, 5.0, 2.5)


def test_cubes_make_no_scan_larger_that_is_seen_in_parts():
    small = fingerprint([(256, 256, 36)], [(1.25, 1.25, 9.0)], diameter=8.0)
    assert plan_preparation(small, 200_000).spacing == (1.25, 1.25, 9.0)


def test_a_scan_that_is_smaller_than_a_crop_fills_one():
    small = fingerprint([(36, 50, 36)], [(1.0, 1.0, 1.0)], diameter=15.0)
    plan = plan_preparation(small, 2_000_000)
    assert len(set(plan.spacing)) == 1
    assert np.prod(np.array((36.0, 50.0, 36.0)) / plan.spacing) == pytest.approx(200_000, rel=0.01)
    assert plan_preparation(small, 10**8).spacing == (0.5, 0.5, 0.5), "at most twofold"
    unlabeled = fingerprint([(36, 50, 36)], [(1.0, 1.0, 1.0)])
    assert plan_preparation(unlabeled, 2_000_000).spacing == (1.0, 1.0, 1.0)


def test_plan_for_ct():
    (normalization,) = plan_preparation(fingerprint([(9, 9, 9)], [(1.0, 1.0, 1.0)], modality="ct"), 10**6).normalization
    assert normalization == Normalization("ct", -160.0, 260.0, 50.0, 70.0), "a deviation of next to nothing is no scale"


def test_around_a_soft_organ_fat_muscle_and_bone_stay_apart():
    brain = Intensity("ct", -9.4, 31.0, 14.2, 6.9)
    plan = plan_preparation(Fingerprint(((9, 9, 9),), ((1.0, 1.0, 1.0),), (brain,), (), 1), 10**6)
    tissues = sitk.GetImageFromArray(np.array([[[-1000, -100, 14, 60, 200, 900]]], dtype=np.float32))
    (prepared, _) = prepare_image([tissues], plan)
    air, fat, organ, muscle, spongy, cortical = sorted(prepared.ravel())
    assert air < fat < organ < muscle < spongy <= cortical
    assert min(organ - fat, spongy - muscle) > 1
    assert cortical - air < 8, "as wide as the brightness of other scans"
    assert plan_preparation(
        Fingerprint(((9, 9, 9),), ((1.0, 1.0, 1.0),), (Intensity("ct", -950.0, 1500.0, 100.0, 380.0),), (), 1), 10**6
    ).normalization == (Normalization("ct", -960.0, 1500.0, 100.0, 410.0),)


def test_json_round_trip():
    preparation = Preparation(
        (0.7, 0.7, 3.27), (Normalization("ct", -100.0, 250.5, 40.0, 33.3), Normalization("zscore"))
    )
    assert Preparation.from_json(json.loads(json.dumps(preparation.to_json()))) == preparation
    with pytest.raises(ValueError, match="sepia"):
        Normalization("sepia")
