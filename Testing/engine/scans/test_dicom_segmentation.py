"""DICOM segmentations as labels: what this engine, and others by way of highdicom, wrote comes back in its place."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series

from glmae.errors import ScanError
from glmae.scans.cases import find_cases, find_images, find_labels
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_image
from glmae.scans.labels import read_label
from glmae.segmentation.dicom_seg import write_dicom_seg

CLASSES = ClassTable(
    (
        SegmentClass(1, "liver", (0.8, 0.4, 0.2), "l~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~l~^^~^^"),
        SegmentClass(2, "vessel"),
    )
)


@pytest.fixture
def series(scan, folder):
    """An oblique series with its scan's label, on its grid, and the folder of both."""
    ct = sitk.Cast(sitk.RescaleIntensity(scan, -1000, 900), sitk.sitkInt16)[:, :, 5:19]
    turned = sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix()
    Geometry(ct.GetSize(), (0.7, 0.9, 2.5), (-100.5, 20.25, 300.0), turned).place(ct)
    write_series(folder / "images" / "p1", ct, names=[7, 3, 11, 0, 9, 1, 5, 10, 2, 8, 4, 6, 13, 12])
    (folder / "labels").mkdir()
    return folder


@pytest.fixture
def drawn(series, label):
    image = read_image(series / "images" / "p1")
    part = label[:, :, 5:19]
    part.CopyInformation(image)
    return part


@pytest.mark.parametrize("place", ["p1.dcm", "p1/export 7.dcm", "p1/0001", "p1"])
def test_there_and_back(series, drawn, place):
    target = series / "labels" / place
    target.parent.mkdir(exist_ok=True)
    write_dicom_seg(series / "out.dcm", drawn, CLASSES, find_images([series / "images"])[0])
    (series / "out.dcm").rename(target)
    (case,), table = find_cases(series / "images", series / "labels")
    assert (table.names, table.values) == (("liver", "vessel"), (1, 2))
    assert table.classes[0].same_terminology(CLASSES.classes[0])
    assert table.classes[0].color == pytest.approx((0.8, 0.4, 0.2), abs=0.02)
    read = read_label(case, read_image(case.images[0]), table)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(drawn))
    assert [case.name for case in find_labels(series / "labels")[0]] == ["p1"]


def test_segments_that_overlap(series, drawn):
    """The smaller one keeps the voxels, as in Slicer's files."""
    highdicom = pytest.importorskip("highdicom")
    import pydicom

    from glmae.scans.dicom_volume import series_files
    from glmae.segmentation.dicom_seg import _described

    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in series_files(series / "images" / "p1")]
    for dataset in slices:
        dataset.SpacingBetweenSlices = 2.5
    whole = sitk.GetArrayFromImage(drawn)
    masks = np.stack([whole > 0, whole == 2], axis=-1).astype(np.uint8)
    names = [_described(n, entry) for n, entry in enumerate(CLASSES.with_colors(), start=1)]
    highdicom.seg.Segmentation(
        slices,
        masks,
        highdicom.seg.SegmentationTypeValues.BINARY,
        names,
        highdicom.UID(),
        300,
        highdicom.UID(),
        1,
        "maker",
        "model",
        "1",
        "0",
    ).save_as(series / "labels" / "p1.dcm")
    (case,), table = find_cases(series / "images", series / "labels")
    read = read_label(case, read_image(case.images[0]), table)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), whole)


def test_other_dicom_files_and_damaged_ones(series, drawn, said, events, heard):
    write_dicom_seg(series / "labels" / "p1.dcm", drawn, CLASSES, find_images([series / "images"])[0])
    content = (series / "labels" / "p1.dcm").read_bytes()
    (series / "labels" / "p1.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(ScanError, match="cannot be read as DICOM segmentation") as caught:
        find_cases(series / "images", series / "labels")
    said(caught, series / "labels" / "p1.dcm")
    (next((series / "images" / "p1").iterdir())).rename(series / "labels" / "slice.dcm")
    find_labels(series / "labels", None, events)
    assert [event["file"] for event in heard] == [str(series / "labels" / "slice.dcm")]


def test_without_highdicom(series, drawn, said, monkeypatch):
    write_dicom_seg(series / "labels" / "p1.dcm", drawn, CLASSES, find_images([series / "images"])[0])
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ScanError, match="pip install highdicom") as caught:
        find_cases(series / "images", series / "labels")
    said(caught, series / "labels" / "p1.dcm")
