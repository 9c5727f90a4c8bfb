from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError
from glmae.scans import labels
from glmae.scans.case import Case
from glmae.scans.classes import IGNORE, ClassTable, SegmentClass
from glmae.scans.geometry import Geometry
from glmae.scans.labels import classes_in, read_label
from glmae.scans.region import Region
from glmae.scans.written_image import write_labelmap

TABLE = ClassTable((SegmentClass(1, "anterior"), SegmentClass(2, "posterior")))


def array(image):
    return sitk.GetArrayFromImage(image)


@pytest.fixture
def case(save):
    """A case with this label, saved under this name."""

    def make(content, name="scan 1.nii.gz", **fields):
        return Case("scan 1", (), save(content, name), **fields)

    return make


@pytest.fixture
def segments(save):
    """Write masks [K, J, I] on the grid of a scan as a file with a layer each."""

    def write(grid, masks, name="scan 1.seg.nrrd"):
        voxels = sitk.GetImageFromArray(np.stack(list(masks.values()), axis=-1).astype(np.uint8), isVector=True)
        grid.place(voxels)
        for number, title in enumerate(masks):
            for key, text in {"Name": title, "LabelValue": "1", "Layer": str(number)}.items():
                voxels.SetMetaData(f"Segment{number}_{key}", text)
        return Case("scan 1", (), save(voxels, name))

    return write


def test_real_label_map(samples, scan, label, events, heard):
    case = Case("hippocampus_003", (), samples / "labels" / "hippocampus_003.nii.gz")
    read = read_label(case, scan, TABLE, events)
    np.testing.assert_array_equal(array(read), array(label))
    assert read.GetPixelID() == sitk.sitkUInt8
    assert Geometry.of(read) == Geometry.of(scan)
    assert not heard
    assert classes_in(case).names == ("label 1", "label 2")


def test_values_are_found_by_class_not_by_order(case, label):
    """The file calls 7 what the model's second channel is, and 3 what its first is."""
    values = np.array([0, 7, 3], dtype=np.uint8)[array(label)]
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(label)
    own = ClassTable((SegmentClass(3, "Posterior"), SegmentClass(7, "ANTERIOR")))
    read = read_label(case(image, classes=own), label, TABLE)
    np.testing.assert_array_equal(array(read), array(label))


@pytest.mark.parametrize("orientation", ["LAS", "LPS", "PIR"])
def test_other_order_of_axes_is_the_same_place(case, scan, label, events, heard, orientation):
    read = read_label(case(sitk.DICOMOrient(label, orientation)), scan, TABLE, events)
    np.testing.assert_array_equal(array(read), array(label))
    assert not heard, "nothing was interpolated"


def test_slightly_different_grid_is_resampled_with_a_warning(case, scan, label, events, heard):
    finer = Geometry.of(label).resized((0.5, 0.5, 0.5))
    empty = finer.image(np.zeros(finer.size[::-1], np.uint8))
    read = read_label(
        case(sitk.Resample(label, empty, sitk.Transform(), sitk.sitkNearestNeighbor)), scan, TABLE, events
    )
    np.testing.assert_array_equal(array(read), array(label))
    assert Geometry.of(read) == Geometry.of(scan)
    assert [event["event"] for event in heard] == ["warning"]
    assert "scan 1.nii.gz" in heard[0]["message"]
    assert "resampled" in heard[0]["message"]


def test_shift_within_tolerance_and_beyond(case, scan, label, events, heard, said):
    for shift, warnings in ((0.02, 0), (0.6, 1)):
        moved = sitk.Image(label)
        moved.SetOrigin(np.array(label.GetOrigin()) + np.array((shift, 0, 0)))
        heard.clear()
        read = read_label(case(moved), scan, TABLE, events)
        assert Geometry.of(read) == Geometry.of(scan)
        assert len(heard) == warnings
    moved.SetOrigin(np.array(label.GetOrigin()) + np.array((1.5, 0, 0)))
    wrong = case(moved)
    with pytest.raises(ScanError, match="does not lie where") as caught:
        read_label(wrong, scan, TABLE)
    said(caught, wrong.label)


def test_cropped_label_map_is_no_label_of_this_image(case, scan, label, said):
    wrong = case(label[5:30, 5:40, 5:30])
    with pytest.raises(ScanError, match="25x35x25") as caught:
        read_label(wrong, scan, TABLE)
    said(caught, wrong.label)


def test_mirrored_label_is_never_taken_as_it_is(case, scan, label):
    """The same size, spacing and voxel order, but left is right: the directions tell."""
    mirrored = sitk.Image(label)
    direction = np.array(label.GetDirection()).reshape(3, 3) @ np.diag([-1, 1, 1])
    mirrored.SetDirection(direction.ravel().tolist())
    with pytest.raises(ScanError):
        read_label(case(mirrored), scan, TABLE)
    mirrored.SetOrigin(label.TransformIndexToPhysicalPoint((label.GetSize()[0] - 1, 0, 0)))
    np.testing.assert_array_equal(array(read_label(case(mirrored), scan, TABLE)), array(label)[:, :, ::-1])


def test_unknown_value(case, scan, label, said):
    wrong = case(label * 4)
    with pytest.raises(ScanError, match="value 4, but the classes are 1, 2") as caught:
        read_label(wrong, scan, TABLE)
    said(caught, wrong.label)
    with pytest.raises(ScanError, match="value 4"):
        classes_in(dataclasses.replace(wrong, classes=TABLE))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_values_that_are_no_labels(case, scan, label, said, name):
    real = sitk.Cast(label, sitk.sitkFloat32)
    read = read_label(case(real, name), scan, TABLE)
    np.testing.assert_array_equal(array(read), array(label))
    missing = array(real)
    missing[0, 0, 0] = np.nan
    for content, reason in (
        (array(real) * 0.5, "whole numbers"),
        (missing, "not numbers"),
        (-array(real), "value -2"),
        (np.arange(missing.size, dtype=np.float32).reshape(missing.shape) * 3, "image and no label map"),
        ((np.arange(missing.size) % 999).astype(np.int16).reshape(missing.shape), "998 values"),
    ):
        image = sitk.GetImageFromArray(content)
        image.CopyInformation(label)
        wrong = case(image, name)
        with pytest.raises(ScanError, match=reason) as caught:
            read_label(wrong, scan, TABLE)
        said(caught, wrong.label)


def test_color_picture_as_label(case, scan, label, said):
    wrong = case(sitk.Compose(label, label, label), "a.nrrd")
    with pytest.raises(ScanError, match="several values") as caught:
        read_label(wrong, scan, TABLE)
    said(caught, wrong.label)


def test_truncated_label(case, scan, label, said):
    wrong = case(label)
    content = wrong.label.read_bytes()
    wrong.label.write_bytes(content[: len(content) // 2])
    for read in (lambda: read_label(wrong, scan, TABLE), lambda: classes_in(wrong)):
        with pytest.raises(ScanError) as caught:
            read()
        said(caught, wrong.label)


def test_empty_label_needs_to_be_meant(case, scan, label, said):
    empty = case(label * 0)
    with pytest.raises(ScanError, match="empty") as caught:
        read_label(empty, scan, TABLE)
    said(caught, empty.label)
    meant = dataclasses.replace(empty, annotated=frozenset({"anterior"}))
    assert not array(read_label(meant, scan, TABLE)).any()
    assert not array(read_label(empty, scan, TABLE, prediction=True)).any()


def test_class_that_was_not_annotated_is_not_known(case, scan, label, events, heard):
    read = read_label(case(label, annotated=frozenset({"posterior"})), scan, TABLE, events)
    np.testing.assert_array_equal(array(read), np.array([0, IGNORE, 2])[array(label)])
    assert "'anterior'" in heard[0]["message"]


def test_region(case, scan, label):
    read = array(read_label(case(label, region=Region(axis=2, slices=(15, 20))), scan, TABLE))
    np.testing.assert_array_equal(read[[15, 20]], array(label)[[15, 20]])
    assert (np.delete(read, [15, 20], axis=0) == IGNORE).all()


def test_prediction_with_more_classes(case, scan, label):
    one = ClassTable(TABLE.classes[:1])
    read = read_label(case(label), scan, one, prediction=True)
    np.testing.assert_array_equal(array(read), array(label) == 1)


@pytest.mark.parametrize("start", [(0, 0, 0), (6, 4, 3), (-2, 3, -1)], ids=["whole", "cropped", "beyond"])
def test_segmentation_is_placed_by_world_coordinates(segments, scan, label, events, heard, start):
    """Oblique too: the file's grid differs from that of the scan by whole voxels."""
    turned = tuple(sitk.VersorTransform((0.2, 1.0, 0.3), 0.5).GetMatrix())
    grid = Geometry(Geometry.of(scan).size, (0.8, 1.1, 2.5), (40.0, -3.0, 7.5), turned)
    size = tuple(n - 7 for n in grid.size)
    around = np.pad(array(label), 10)
    numbers = around[tuple(slice(10 + a, 10 + a + n) for a, n in zip(reversed(start), reversed(size), strict=True))]
    case = segments(grid.part(start, size), {"Posterior": numbers == 2, "Anterior": numbers == 1})
    expected = np.zeros(array(label).shape, dtype=np.uint8)
    inside = tuple(slice(max(0, a), a + n) for a, n in zip(reversed(start), reversed(size), strict=True))
    expected[inside] = array(label)[inside]
    read = read_label(case, grid, TABLE, events)
    np.testing.assert_array_equal(array(read), expected)
    assert Geometry.of(read) == grid
    assert not heard
    assert set(classes_in(case).names) == {"Anterior", "Posterior"}


def test_segmentation_on_another_grid_is_the_nearest_neighbor(segments, scan, label):
    finer = Geometry.of(label).resized((0.7, 0.9, 1.3))
    empty = finer.image(np.zeros(finer.size[::-1], np.uint8))
    moved = sitk.Resample(label, empty, sitk.Transform(), sitk.sitkNearestNeighbor)
    case = segments(finer, {"anterior": array(moved) == 1, "posterior": array(moved) == 2})
    back = sitk.Resample(moved, scan, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    np.testing.assert_array_equal(array(read_label(case, scan, TABLE)), array(back))


def test_segmentation_beyond_the_image_is_said(segments, scan, label, events, heard):
    grid = Geometry.of(scan)
    part = grid.part((-5, 0, 0), grid.size)
    mask = np.zeros(array(scan).shape, dtype=bool)
    mask[10:12, 10:12, 0:10] = True
    read = read_label(segments(part, {"anterior": mask}), scan, TABLE, events)
    assert array(read).sum() == 2 * 2 * 5
    assert "20 of 40 voxels" in heard[0]["message"]
    away = segments(grid.part((100, 0, 0), grid.size), {"anterior": mask})
    with pytest.raises(ScanError, match="no voxel of the scan") as caught:
        read_label(away, scan, TABLE)
    assert str(away.label) in str(caught.value)


def test_smaller_segment_wins_and_both_are_named(segments, scan, events, heard):
    shape = array(scan).shape
    large, small = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    large[5:20, 5:20, 5:20] = True
    small[10:13, 10:13, 18:25] = True
    for masks in ({"anterior": large, "posterior": small}, {"posterior": small, "anterior": large}):
        heard.clear()
        read = array(read_label(segments(Geometry.of(scan), masks), scan, TABLE, events))
        np.testing.assert_array_equal(read, np.where(small, 2, np.where(large, 1, 0)))
        assert len(heard) == 1
        assert "'anterior'" in heard[0]["message"]
        assert "'posterior'" in heard[0]["message"]


def test_segment_without_voxels_is_not_held(segments, scan, label):
    case = segments(Geometry.of(scan), {"anterior": array(label) == 1, "posterior": array(label) == 9})
    assert classes_in(case).names == ("anterior",)


def test_a_value_that_no_segment_has_is_said(segments, scan, label, events, heard):
    """Voxels that some program drew without naming them are background, as in Slicer, but not without a word."""
    case = segments(Geometry.of(label), {"anterior": array(label)})
    read_label(case, scan, TABLE, events)
    assert "holds the value 2, which none of its segments has" in heard[0]["message"]


def test_unknown_segment(segments, scan, label, said):
    case = segments(Geometry.of(scan), {"tumor": array(label) == 1})
    with pytest.raises(ScanError, match="'tumor'") as caught:
        read_label(case, scan, TABLE)
    said(caught, case.label)


def test_written_label_map_keeps_the_training_values(folder, label):
    table = ClassTable((SegmentClass(4, "a"), SegmentClass(400, "b")))
    values = sitk.GetImageFromArray(np.array([0, 4, 400], dtype=np.uint16)[array(label)])
    values.CopyInformation(label)
    values.SetMetaData("descrip", "Jane Doe")
    write_labelmap(folder / "out 頭.nii.gz", values, table)
    back = sitk.ReadImage(str(folder / "out 頭.nii.gz"))
    np.testing.assert_array_equal(array(back), array(values))
    assert Geometry.of(back).same_grid(Geometry.of(label), 1e-4)
    assert back.GetMetaData("descrip") == ""
    assert values.GetMetaDataKeys() == ("descrip",), "the caller's image is left alone"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_values_that_are_off_by_rounding(case, scan, label, events, heard, said, name):
    """As scaled integers give them: 1.0000153 for 1."""
    near = sitk.Cast(label, sitk.sitkFloat32) * 1.0000153
    made = case(near, name)
    assert classes_in(made).values == (1, 2)
    np.testing.assert_array_equal(array(read_label(made, scan, TABLE, events)), array(label))
    assert [event["event"] for event in heard] == ["warning"]
    assert "were rounded" in heard[0]["message"]
    for factor in (0.988, 0.5, 1.002):
        wrong = case(sitk.Cast(label, sitk.sitkFloat32) * factor, name)
        with pytest.raises(ScanError, match="not whole numbers") as caught:
            read_label(wrong, scan, TABLE)
        said(caught, wrong.label)


@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("value", [65536, 70000, 614454567])
def test_values_that_no_model_can_hold(case, label, said, kind, value):
    numbers = array(label).astype(kind)
    numbers[numbers == 2] = value
    with pytest.raises(ScanError, match=r"holds the value \d+; values go up to 65535, so renumber") as caught:
        classes_in(case(numbers))
    said(caught, "scan 1.nii.gz")
    numbers[numbers == value] = 65535
    assert classes_in(case(numbers)).values == (1, 65535)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.float32])
def test_the_widest_range_of_a_type(case, label, said, kind):
    """The difference of lowest and highest does not fit into the type."""
    limits = np.iinfo(kind) if np.issubdtype(kind, np.integer) else np.finfo(kind)
    numbers = array(label).astype(kind)
    numbers[0, 0, :2] = limits.min, limits.max
    with pytest.raises(ScanError) as caught:
        classes_in(case(numbers, "a.nrrd"))
    said(caught, "a.nrrd")
    numbers[0, 0, 1] = 0
    with pytest.raises(ScanError) as caught:
        classes_in(case(numbers, "b.nrrd"))
    said(caught, "b.nrrd")


def test_a_ct_among_the_labels(case, said):
    image = np.random.default_rng(0).integers(-3024, 30710, (20, 24, 28)).astype(np.int16)
    with pytest.raises(ScanError, match=r"values up to 30\d+, so it is an image and no label map") as caught:
        classes_in(case(image))
    said(caught, "scan 1.nii.gz")


def test_an_atlas_of_more_structures_than_a_model_holds(case, said):
    numbers = (np.arange(20 * 24 * 28).reshape(20, 24, 28) % 725).astype(np.int16)
    with pytest.raises(ScanError, match=r"724 values.* at most 254 structures") as caught:
        classes_in(case(numbers))
    said(caught, "scan 1.nii.gz")


@pytest.mark.parametrize("annotated", [None, frozenset({"anterior"})])
def test_the_value_of_the_unknown_part(case, scan, label, annotated):
    numbers = array(label)
    numbers[:5] = 3
    image = sitk.GetImageFromArray(numbers)
    image.CopyInformation(label)
    made = case(image, unknown=3, classes=TABLE, annotated=annotated)
    assert classes_in(made) == TABLE
    expected = np.where(numbers == 3, IGNORE, numbers)
    if annotated:
        expected[numbers == 2] = IGNORE
    np.testing.assert_array_equal(array(read_label(made, scan, TABLE)), expected)


def test_nothing_but_the_unknown_part_is_an_empty_label(case, scan, label):
    made = case(sitk.Cast(label >= 0, sitk.sitkUInt8) * 3, unknown=3, classes=TABLE)
    with pytest.raises(ScanError, match="empty"):
        read_label(made, scan, TABLE)


def test_classes_of_a_file_that_has_not_changed_are_not_read_again(case, label, monkeypatch):
    known, read = case(label), []
    original = labels.load
    monkeypatch.setattr(labels, "load", lambda *words: read.append(words) or original(*words))
    for _ in range(3):
        assert classes_in(known).names == ("label 1", "label 2")
    assert len(read) == 1
    sitk.WriteImage(label == 1, str(known.label))
    assert classes_in(known).names == ("label 1",)
    assert classes_in(dataclasses.replace(known, unknown=1)).names == ()
    known.label.unlink()
    with pytest.raises(ScanError, match="does not exist"):
        classes_in(known)
