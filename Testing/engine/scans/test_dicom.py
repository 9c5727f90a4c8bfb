"""A small CT series, written slice by slice as scanners do, from the voxels of a real scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series

from glmae.errors import ScanError
from glmae.scans.cases import find_images
from glmae.scans.classes import ClassTable
from glmae.scans.dicom import holds_dicom
from glmae.scans.dicom_volume import read_series
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_image
from glmae.scans.segmentation_file import write_segmentation
from glmae.scans.written_image import write_labelmap


@pytest.fixture
def ct(scan) -> sitk.Image:
    values = sitk.GetArrayFromImage(scan)
    values = (values / values.max() * 1500 - 1000).astype(np.int16)[:12]
    image = sitk.GetImageFromArray(values)
    turned = sitk.VersorTransform((1.0, 0.2, 0.0), 0.3).GetMatrix()
    Geometry(image.GetSize(), (0.7, 0.7, 2.5), (-100.5, 20.25, 300.0), turned).place(image)
    return image


@pytest.fixture
def series(folder, ct) -> Path:
    path = folder / "CT Thorax é"
    write_series(path, ct, names=[7, 3, 11, 0, 9, 1, 5, 10, 2, 8, 4, 6])
    return path


def test_series_comes_back_as_it_was(series, ct):
    image = read_image(series)
    assert Geometry.of(image).same_grid(Geometry.of(ct), tolerance=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ct))


def test_a_folder_is_a_case(series, folder):
    assert holds_dicom(series)
    for given in (folder, series):
        (case,) = find_images([given])
        assert case.name == "CT Thorax é"
        assert case.images == (series,)


def test_no_patient_in_anything_written(series, folder):
    image = read_image(series)
    assert not image.GetMetaDataKeys()
    label = sitk.Cast(image > 0, sitk.sitkUInt8)
    table = ClassTable.from_labels([1])
    write_segmentation(folder / "out.seg.nrrd", label, table)
    write_labelmap(folder / "out.nii.gz", label, table)
    for written in ("out.seg.nrrd", "out.nii.gz"):
        header = sitk.ImageFileReader()
        header.SetFileName(str(folder / written))
        header.ReadImageInformation()
        text = " ".join(header.GetMetaData(key) for key in header.GetMetaDataKeys())
        assert "Muster" not in text
        assert "4711" not in text


def test_two_series(series, ct, said):
    write_series(series, ct[:, :, :5], number=8)
    with pytest.raises(ScanError, match="2 DICOM series") as caught:
        read_series(series)
    text = said(caught, series)
    assert "series 3: CT, 12 files" in text
    assert "series 8: CT, 5 files" in text
    assert "Muster" not in text


def test_missing_slice(series, said):
    (series / "IM30001").unlink()
    with pytest.raises(ScanError, match=r"5\.00 mm after slice 5 of 11") as caught:
        read_series(series)
    said(caught, series)


def test_doubled_slice(folder, ct, said):
    twice = folder / "twice"
    write_series(twice, ct)
    copy = sitk.ReadImage(str(twice / "IM30004"))
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    plane = copy[:, :, 0]
    for key in copy.GetMetaDataKeys():
        plane.SetMetaData(key, copy.GetMetaData(key))
    plane.SetMetaData("0008|0018", "1.2.826.0.1.3680043.2.1125.1.3.99")
    writer.SetFileName(str(twice / "IM30099"))
    writer.Execute(plane)
    with pytest.raises(ScanError, match="two slices at one place") as caught:
        read_series(twice)
    said(caught, twice)


def test_tilted_gantry(folder, ct, said):
    straight = sitk.Image(ct)
    straight.SetDirection((1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    write_series(folder / "tilted", straight, shift=0.8)
    with pytest.raises(ScanError, match="gantry") as caught:
        read_series(folder / "tilted")
    said(caught, folder / "tilted")


def test_no_series(folder, said):
    (folder / "readme.txt").write_text("nothing here", encoding="utf-8")
    with pytest.raises(ScanError, match="no DICOM series") as caught:
        read_series(folder)
    said(caught, folder)
    with pytest.raises(ScanError, match="does not exist") as caught:
        read_series(folder / "gone")
    said(caught, folder / "gone")


def test_damaged_slice(series, said):
    file = series / "IM30003"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ScanError) as caught:
        read_series(series)
    said(caught, series)
