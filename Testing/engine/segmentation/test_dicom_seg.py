"""DICOM segmentations open again where their series lies, refer to it, and say what the segments are."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import PATIENT, edit_slices, write_frames, write_series

from glmae.errors import ScanError
from glmae.scans.case import Case
from glmae.scans.cases import find_images
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_channels
from glmae.scans.labels import read_label
from glmae.segmentation.dicom_seg import check_source, write_dicom_seg

highdicom = pytest.importorskip("highdicom")
CLASSES = ClassTable(
    (
        SegmentClass(
            2, "liver", (0.8, 0.4, 0.2), "list~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~l~^^~^^"
        ),
        SegmentClass(300, "something else"),
        SegmentClass(5, "not there"),
    )
)


@pytest.fixture
def series(sample_scans, tmp_path):
    """An oblique CT, its files in no order and with a wrong distance of slices in their tags, and its case."""
    scan = sitk.ReadImage(str(sample_scans / "images" / "hippocampus_003.nii.gz"))[:, :, :12]
    ct = sitk.Cast(sitk.RescaleIntensity(scan, -1000, 900), sitk.sitkInt16)
    turned = sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix()
    Geometry(ct.GetSize(), (0.7, 0.9, 2.5), (-100.5, 20.25, 300.0), turned).place(ct)
    write_series(tmp_path / "CT", ct, names=[7, 3, 11, 0, 9, 1, 5, 10, 2, 8, 4, 6], tags={"0018|0088": "1"})
    (case,) = find_images([tmp_path / "CT"])
    return case


def test_there_and_back(series, tmp_path):
    image = read_channels(series.images)[0]
    numbers = np.zeros(sitk.GetArrayViewFromImage(image).shape, dtype=np.uint16)
    numbers[3:7, 10:30, 5:20] = 2
    numbers[6:9, 30:50, 20:30] = 300
    labels = sitk.GetImageFromArray(numbers)
    labels.CopyInformation(image)
    write_dicom_seg(tmp_path / "out.dcm", labels, CLASSES, series)
    found = highdicom.seg.segread(tmp_path / "out.dcm")
    assert [found.get_segment_description(n).segment_label for n in (1, 2, 3)] == [
        "liver",
        "something else",
        "not there",
    ]
    kind = found.get_segment_description(1).segmented_property_type
    assert (kind.value, kind.scheme_designator, kind.meaning) == ("10200004", "SCT", "Liver")
    assert found.get_segment_description(2).segmented_property_type.meaning == "Tissue"
    # Voxel by voxel in the world: highdicom's affine is DICOM's (LPS), from slice, row and column.
    volume = found.get_volume(combine_segments=True)
    for value, number in ((2, 1), (300, 2)):
        here = {
            tuple(labels.TransformIndexToPhysicalPoint(tuple(map(int, at[::-1]))))
            for at in np.argwhere(numbers == value)
        }
        there = np.argwhere(volume.array == number) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        assert len(there) == len(here)
        np.testing.assert_allclose(
            sorted(map(tuple, there.round(3))), sorted(tuple(np.round(p, 3)) for p in here), atol=0.01
        )
    referred = {
        entry.ReferencedSOPInstanceUID for entry in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert len(referred) == 12
    assert str(found.PatientName) == PATIENT, "as the standard requires"


def test_nothing_found(series, tmp_path):
    image = read_channels(series.images)[0]
    labels = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    labels.CopyInformation(image)
    write_dicom_seg(tmp_path / "out.dcm", labels, CLASSES, series)
    assert not highdicom.seg.segread(tmp_path / "out.dcm").pixel_array.any()


def test_a_scan_that_is_no_dicom(sample_scans, tmp_path):
    path = sample_scans / "images" / "hippocampus_003.nii.gz"
    with pytest.raises(ScanError, match=r"no DICOM series.*; choose --format"):
        write_dicom_seg(tmp_path / "out.dcm", sitk.ReadImage(str(path)), CLASSES, Case("a", (path,)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("declared", [None, "ISO_IR 100", "ISO_IR 101", "ISO 2022 IR 87"])
def test_names_are_whole_whatever_the_series_character_set(series, tmp_path, declared):
    import pydicom

    patient = "Müller^Jörg" if declared == "ISO_IR 100" else "Mueller^Joerg"

    def change(dataset, k):
        if declared is not None:
            dataset.SpecificCharacterSet = ["", declared] if "2022" in declared else declared
        dataset.PatientName = patient

    edit_slices(tmp_path / "CT", change)
    names = ("Läsion α", "病変", "a\\b")
    classes = ClassTable(tuple(SegmentClass(n, name) for n, name in enumerate(names, start=1)))
    check_source(series, classes)
    image = read_channels(series.images)[0]
    labels = sitk.Cast(image > 0, sitk.sitkUInt8)
    write_dicom_seg(tmp_path / "out.dcm", labels, classes, series)
    found = pydicom.dcmread(tmp_path / "out.dcm")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert [str(entry.SegmentLabel) for entry in found.SegmentSequence] == ["Läsion α", "病変", "a/b"]
    assert str(found.PatientName) == patient


def test_tags_that_may_be_empty_may_be_absent(series, tmp_path):
    absent = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
    absent += ("AccessionNumber", "StudyID", "ReferringPhysicianName", "SeriesNumber")

    def change(dataset, k):
        for name in absent:
            dataset.pop(name, None)

    edit_slices(tmp_path / "CT", change)
    check_source(series, CLASSES)
    image = read_channels(series.images)[0]
    labels = sitk.Cast(image > 0, sitk.sitkUInt8) * 2
    write_dicom_seg(tmp_path / "out.dcm", labels, CLASSES, series)
    found = highdicom.seg.segread(tmp_path / "out.dcm")
    assert found.PatientID in ("", None)
    assert found.pixel_array.any()


def test_what_makes_no_file_is_known_before_the_work(series, tmp_path):
    edit_slices(tmp_path / "CT", lambda dataset, k: delattr(dataset, "FrameOfReferenceUID"))
    with pytest.raises(ScanError, match=r"Frame Of Reference.*; choose --format"):
        check_source(series, CLASSES)
    image = read_channels(series.images)[0]
    write_frames(tmp_path / "MF" / "1", image, None, lambda data: delattr(data, "PerFrameFunctionalGroupsSequence"))
    with pytest.raises(ScanError, match=r"without a position|no DICOM segmentation can refer"):
        check_source(Case("MF", (tmp_path / "MF",)), CLASSES)


def test_a_series_in_one_file_of_frames(series, tmp_path):
    """Its frames in no order, and without the thickness that the standard wants."""
    image = read_channels(series.images)[0]
    write_frames(tmp_path / "MF" / "1", image, [7, 3, 11, 0, 9, 1, 5, 10, 2, 8, 4, 6])
    (case,) = find_images([tmp_path / "MF"])
    image = read_channels(case.images)[0]
    numbers = np.zeros(sitk.GetArrayViewFromImage(image).shape, dtype=np.uint8)
    numbers[3:7, 10:30, 5:20], numbers[6:9, 30:50, 20:30] = 2, 5
    labels = sitk.GetImageFromArray(numbers)
    labels.CopyInformation(image)
    check_source(case, CLASSES)
    write_dicom_seg(tmp_path / "out.dcm", labels, CLASSES, case)
    read = read_label(Case("MF", (), tmp_path / "out.dcm"), image, CLASSES)
    found = sitk.GetArrayFromImage(read)
    np.testing.assert_array_equal(found == 1, numbers == 2)
    np.testing.assert_array_equal(found == 3, numbers == 5)
