"""DICOM as archives really hold it: numbers that are missing or contradict each other, all slices in one file."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import edit_slices, set_group, write_frames, write_series

from glmae.errors import ScanError
from glmae.scans.cases import find_cases, find_images
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_image


@pytest.fixture
def ct(scan) -> sitk.Image:
    image = sitk.Cast(sitk.RescaleIntensity(scan, -1000, 900), sitk.sitkInt16)[:, :, :9]
    turned = sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix()
    Geometry(image.GetSize(), (0.7, 0.9, 2.5), (-100.5, 20.25, 300.0), turned).place(image)
    return image


def test_each_slice_has_its_own_slope(folder, ct):
    """The first slope is whole, the others are not: as whole numbers nearly all would be 0."""
    write_series(folder / "PET", ct)
    stored = {}

    def change(dataset, k):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 if k == 0 else 0.0004 * k, 0
        stored[k] = dataset.pixel_array.astype(np.float64) * float(dataset.RescaleSlope)

    edit_slices(folder / "PET", change)
    values = sitk.GetArrayFromImage(read_image(folder / "PET"))
    np.testing.assert_allclose(values, np.stack([stored[k] for k in range(9)]), rtol=1e-5)


def test_a_slice_of_a_larger_type_than_the_first(folder, ct):
    write_series(folder / "CT", ct)

    def change(dataset, k):
        dataset.RescaleIntercept = -1024 if k == 0 else 40000

    edit_slices(folder / "CT", change)
    values = sitk.GetArrayFromImage(read_image(folder / "CT"))
    np.testing.assert_array_equal(values[1:], sitk.GetArrayFromImage(ct)[1:].astype(int) + 41024)


@pytest.mark.parametrize(
    ("tag", "text", "reason"),
    [
        ("ImagePositionPatient", None, "without a position"),
        ("ImagePositionPatient", "1,5;2,5;3,5", "three numbers of a position"),
        ("ImagePositionPatient", "1\\2", "three numbers of a position"),
        ("ImageOrientationPatient", None, "without a position"),
        ("ImageOrientationPatient", "1\\0\\0\\0\\1", "six numbers"),
        ("PixelSpacing", None, "no pixel spacing"),
        ("PixelSpacing", "0\\0", "no pixel spacing"),
        ("PixelSpacing", "0,7,0,9", "two numbers of the pixel spacing"),
        ("PixelSpacing", "1.4\\1.8", "different pixel spacing"),
        ("RescaleSlope", "0.5x", "slope"),
        ("RescaleSlope", "0,5", "slope"),
        ("RescaleIntercept", "nan", "intercept"),
    ],
)
def test_numbers_that_are_missing_or_none(folder, ct, said, tag, text, reason):
    write_series(folder / "CT", ct)
    edit_slices(folder / "CT", lambda dataset, k: write_text(dataset, tag, text or "") if k == 3 else None)
    with pytest.raises(ScanError, match=reason) as caught:
        read_image(folder / "CT")
    said(caught, folder / "CT")


def write_text(dataset, tag, text):
    """Whatever a program took for numbers."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    place = Tag(tag_for_keyword(tag))
    dataset._dict[place] = RawDataElement(place, "DS", len(text), text.encode(), 0, False, True)


def test_a_picture_that_ends_too_soon(folder, ct, said):
    """Its reader would take for the rest whatever lies in memory."""
    write_series(folder / "CT", ct)
    edit_slices(folder / "CT", lambda data, k: setattr(data, "PixelData", data.PixelData[: -64 * (k == 4) or None]))
    with pytest.raises(ScanError, match="incomplete") as caught:
        read_image(folder / "CT")
    said(caught, folder / "CT" / "IM30004")
    write_frames(folder / "p1" / "IM1", ct, None, lambda data: setattr(data, "PixelData", data.PixelData[:-64]))
    with pytest.raises(ScanError, match="incomplete") as caught:
        read_image(folder / "p1")
    said(caught, folder / "p1")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.103"])
def test_a_compression_that_is_not_read_is_called_so(folder, ct, said, syntax):
    from pydicom.encaps import encapsulate

    write_series(folder / "CT", ct)

    def change(dataset, k):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([b"something"])
        dataset["PixelData"].is_undefined_length = True

    edit_slices(folder / "CT", change)
    with pytest.raises(ScanError, match="compressed in a way that is not read") as caught:
        read_image(folder / "CT")
    said(caught, folder / "CT")


def test_no_slice_has_a_pixel_spacing(folder, ct, said):
    write_series(folder / "CT", ct)
    edit_slices(folder / "CT", lambda dataset, k: delattr(dataset, "PixelSpacing"))
    with pytest.raises(ScanError, match="no pixel spacing") as caught:
        read_image(folder / "CT")
    said(caught, folder / "CT")


def test_rows_and_columns_that_are_slanted(folder, ct, said):
    write_series(folder / "CT", ct)

    def change(dataset, k):
        dataset.ImageOrientationPatient = [1, 0, 0, 0.6, 0.8, 0]

    edit_slices(folder / "CT", change)
    with pytest.raises(ScanError, match="right angles") as caught:
        read_image(folder / "CT")
    said(caught, folder / "CT")


def test_a_copied_slice_is_no_second_time_point(folder, ct, said):
    write_series(folder / "CT", ct)
    shutil.copy(folder / "CT" / "IM30004", folder / "CT" / "IM30004 (1)")
    with pytest.raises(ScanError, match=r"IM30004 \(1\) is a copy of IM30004;") as caught:
        read_image(folder / "CT")
    said(caught, folder / "CT")


def test_files_without_preamble_and_mark(folder, ct):
    write_series(folder / "root" / "CT", ct)
    for file in (folder / "root" / "CT").iterdir():
        file.write_bytes(file.read_bytes()[132:])
    (case,) = find_images([folder / "root"])
    image = read_image(case.images[0])
    assert Geometry.of(image).same_grid(Geometry.of(ct), tolerance=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ct))


@pytest.mark.parametrize("order", [range(9), range(8, -1, -1), (4, 2, 7, 0, 8, 1, 3, 6, 5)])
def test_all_slices_in_one_file(folder, ct, order):
    write_frames(folder / "root" / "p1" / "IM1", ct, order)
    (case,) = find_images([folder / "root"])
    image = read_image(case.images[0])
    assert Geometry.of(image).same_grid(Geometry.of(ct), tolerance=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ct))
    assert not image.GetMetaDataKeys()


def test_one_stack_in_several_files_of_frames(folder, ct):
    from pydicom.uid import generate_uid

    study, series = generate_uid(), generate_uid()

    def change(data):
        data.StudyInstanceUID, data.SeriesInstanceUID = study, series

    for number, (low, high) in enumerate(((3, 9), (0, 3))):
        write_frames(folder / "p1" / f"IM{number}", ct[:, :, low:high], None, change)
    image = read_image(folder / "p1")
    assert Geometry.of(image).same_grid(Geometry.of(ct), tolerance=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ct))


def test_each_frame_has_its_own_slope(folder, ct):
    def change(data):
        for k, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            set_group(
                frame, "PixelValueTransformationSequence", RescaleSlope=1 + k, RescaleIntercept=-k, RescaleType="US"
            )

    write_frames(folder / "p1" / "IM1", ct, None, change)
    k = np.arange(9)[:, None, None]
    expected = sitk.GetArrayFromImage(ct) * (1.0 + k) - k
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_image(folder / "p1")), expected)


def test_one_slope_for_all_frames(folder, ct):
    def change(data):
        shared = data.SharedFunctionalGroupsSequence[0]
        set_group(shared, "PixelValueTransformationSequence", RescaleSlope=0.5, RescaleIntercept=-10, RescaleType="US")

    write_frames(folder / "p1" / "IM1", ct, None, change)
    expected = sitk.GetArrayFromImage(ct) * 0.5 - 10
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_image(folder / "p1")), expected)


def frames_at_one_place(data):
    first, second = data.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence[0].ImagePositionPatient = first.PlanePositionSequence[0].ImagePositionPatient


def a_missing_frame(data):
    frames = data.PerFrameFunctionalGroupsSequence
    for number in range(5, 9):
        place = frames[number].PlanePositionSequence[0]
        place.ImagePositionPatient = [
            float(x) + 2.5 * n for x, n in zip(place.ImagePositionPatient, NORMAL, strict=True)
        ]


def no_place(data):
    del data.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def no_spacing(data):
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def fewer_groups_than_frames(data):
    del data.PerFrameFunctionalGroupsSequence[-1]


def no_groups(data):
    del data.PerFrameFunctionalGroupsSequence


NORMAL = np.array(sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix()).reshape(3, 3)[:, 2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (frames_at_one_place, "two frames at one place"),
        (a_missing_frame, r"5\.00 mm after frame 5 of 9"),
        (no_place, "without a position"),
        (no_spacing, "no pixel spacing"),
        (fewer_groups_than_frames, "9 frames and says of 8"),
        (no_groups, "without a position"),
    ],
)
def test_frames_that_make_no_even_stack(folder, ct, said, change, reason):
    write_frames(folder / "p1" / "IM1", ct, None, change)
    with pytest.raises(ScanError, match=reason) as caught:
        read_image(folder / "p1")
    said(caught, folder / "p1")


def test_what_lies_beside_a_series_is_no_second_one(folder, ct, events, heard):
    """A segmentation, which is said, a localizer and the list of an archive; training and segmenting see one scan."""
    series = folder / "images" / "p1"
    write_series(series, ct)
    write_series(series, ct[:, :, :1], number=300, tags={"0008|0060": "SEG"})
    assert read_image(series).GetSize() == ct.GetSize()
    write_series(series, ct[:, :, :3], number=1, tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    (series / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(300))
    for cases in (find_cases(folder / "images", None, events=events)[0], find_images([folder / "images"])):
        assert [case.name for case in cases] == ["p1"]
        assert read_image(cases[0].images[0]).GetSize() == ct.GetSize()
    (message,) = [event["message"] for event in heard if event["event"] == "warning"]
    assert "IM3000000 (a DICOM segmentation" in message


def test_a_folder_with_nothing_but_a_segmentation_is_no_scan(folder, ct, said):
    write_series(folder / "p1", ct, tags={"0008|0060": "SEG"})
    with pytest.raises(ScanError, match=r"none with a picture that is a scan .*: SEG, 9 files, no scan by") as caught:
        read_image(folder / "p1")
    said(caught, folder / "p1")


def test_a_folder_with_one_slice_is_told_what_is_wrong(folder, ct, said):
    write_series(folder / "p1", ct[:, :, :1])
    with pytest.raises(ScanError, match="1 file, a single picture") as caught:
        read_image(folder / "p1")
    said(caught, folder / "p1")


def test_a_damaged_slice_at_the_end_of_a_training_scan_is_said(folder, ct, events, heard):
    write_series(folder / "images" / "p1", ct)
    (folder / "images" / "p1" / "IM30008").write_bytes((folder / "images" / "p1" / "IM30008").read_bytes()[:300])
    find_cases(folder / "images", None, events=events)
    assert "damaged: 1 of its DICOM files" in heard[0]["message"]
    heard.clear()
    find_cases(folder / "images" / "p1", None, events=events)
    assert "damaged: 1 of its DICOM files" in heard[0]["message"], "also where the slices are the folder of scans"


def test_the_same_series_in_slices_and_in_frames(folder, ct, said):
    import pydicom

    write_series(folder / "p1", ct)
    own = pydicom.dcmread(next((folder / "p1").iterdir()), stop_before_pixels=True)

    def change(data):
        for tag in ("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber"):
            setattr(data, tag, own[tag].value)

    write_frames(folder / "p1" / "all.dcm", ct, None, change)
    with pytest.raises(ScanError, match="files of one slice and files of many") as caught:
        read_image(folder / "p1")
    said(caught, folder / "p1")


def test_files_of_frames_by_themselves(folder, ct):
    """Each is a scan, called after its file; also the only one, and one that is given by its name."""
    for name in ("a.dcm", "b.dcm"):
        write_frames(folder / "images" / name, ct)
    for cases in (find_cases(folder / "images", None)[0], find_images([folder / "images"])):
        assert [case.name for case in cases] == ["a", "b"]
        assert read_image(cases[0].images[0]).GetSize() == ct.GetSize()
    (folder / "images" / "b.dcm").unlink()
    for cases in (find_cases(folder / "images", None)[0], find_images([folder / "images"])):
        assert [case.name for case in cases] == ["a"]
    assert [case.name for case in find_images([folder / "images" / "a.dcm"])] == ["a"]
