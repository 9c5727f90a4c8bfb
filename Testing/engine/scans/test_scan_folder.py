"""Folders as people fill them: a label beside the slices, kinds that are not read, names that do not match."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series

from glmae.errors import RequestError, ScanError
from glmae.scans.cases import find_cases, find_images, find_labels
from glmae.scans.image import read_image
from glmae.segmentation.requirements import inspect_folders


@pytest.fixture
def ct(scan) -> sitk.Image:
    return sitk.Cast(sitk.RescaleIntensity(scan, -1000, 900), sitk.sitkInt16)[:, :, :9]


def messages(heard, kind="warning"):
    return [event["message"] for event in heard if event["event"] == kind]


def test_a_series_with_its_label_beside_it_is_the_scan(folder, save, ct, label, events, heard):
    write_series(folder / "images" / "p1", ct)
    beside = save(label[:, :, :9], "images/p1/Segmentation-label.nii.gz")
    save(label[:, :, :9], "labels/p1.nii.gz")
    save(ct, "images/p2.nii.gz")
    labeled, _ = find_cases(folder / "images", folder / "labels", events=events)
    for cases in (find_images([folder / "images"], events=events), labeled):
        assert [case.name for case in cases] == ["p1", "p2"]
        image = read_image(cases[0].images[0])
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ct))
    said = messages(heard)
    assert len(said) == 2
    assert all(str(beside) in message and "beside a DICOM series" in message for message in said)


def test_a_series_and_image_files_in_one_folder_of_scans(folder, save, ct, label, said):
    write_series(folder / "all", ct)
    save(label, "all/label.nii.gz")
    for call in (lambda: find_images([folder / "all"]), lambda: find_cases(folder / "all", None)):
        with pytest.raises(RequestError, match=r"holds a DICOM series and image files \(label\.nii\.gz\)") as caught:
            call()
        said(caught, folder / "all")


def test_an_image_beside_what_is_no_series_is_the_scan(folder, save, ct, scan):
    """Plans and segmentations are no scans."""
    write_series(folder / "images" / "p1", ct[:, :, :1], tags={"0008|0060": "SEG"})
    path = save(scan, "images/p1/t1.nii.gz")
    assert find_images([folder / "images"])[0].images == (path,)
    assert find_cases(folder / "images", None)[0][0].images == (path,)


@pytest.mark.parametrize("other", [1, 40])
def test_a_label_is_no_channel(folder, save, scan, label, other):
    """Neither as it is, nor with other values."""
    save(scan, "images/p1/1_t1.nii.gz")
    path = save(sitk.Cast(label, sitk.sitkInt16) * other, "images/p1/2_truth.nii.gz")
    save(label, "labels/p1.nii.gz")
    (finding, *_) = inspect_folders(folder / "images", folder / "labels").findings
    assert finding.severity == "error"
    assert str(path) in finding.message
    assert "a label is no input" in finding.message


def test_labels_as_scans(folder, save, label):
    save(label, "labels/p1.nii.gz")
    (finding, *_) = inspect_folders(folder / "labels", folder / "labels" / ".." / "labels", names=["p1"]).findings
    assert finding.severity == "error"


def test_what_is_passed_over_is_said(folder, save, scan, label, ct, events, heard):
    for name in ("a", "b"):
        save(scan, f"images/{name}.nii.gz")
    save(label, "labels/b.nii.gz")
    save(label, "labels/a/liver.nii.gz")
    for name in ("images/c.hdr", "images/c.img", "images/d.nii.bz2", "images/e.mif", "labels/f.npy", "images/g.stl"):
        (folder / name).write_bytes(b"anything")
    (folder / "images" / "h.raw.bin").write_bytes(bytes(200_000))
    for name in ("images/notes.txt", "images/dataset.json", "labels/README", "images/.hidden.mif"):
        (folder / name).write_bytes(b"anything")
    write_series(folder / "images" / "p3" / "series", ct)
    links = []
    if sys.platform != "win32":
        os.symlink("../.git/annex/objects/gone", folder / "images" / "l.nii.gz")
        links = ["images/l.nii.gz"]
    find_cases(folder / "images", folder / "labels", events=events)
    expected = ["images/c.hdr", "images/c.img", "images/d.nii.bz2", "images/e.mif", "images/g.stl", "images/h.raw.bin"]
    expected += ["images/p3", *links, "labels/a", "labels/f.npy"]
    assert sorted(str(folder / name) for name in expected) == sorted(event["file"] for event in heard)
    for message in messages(heard):
        assert re.fullmatch(r"passed over: .* \(.*\)\.", message)
    heard.clear()
    find_images([folder / "images"], events=events)
    expected = [name for name in expected if name.startswith("images") and name != "images/p3"]
    assert sorted(str(folder / name) for name in expected) == sorted(event["file"] for event in heard)
    heard.clear()
    find_labels(folder / "labels", None, events)
    assert len(heard) == 2


def test_no_label_belongs_to_a_scan(folder, save, scan, label, said):
    save(scan, "images/p1.nii.gz")
    save(label, "labels/p1/liver.nii.gz")
    finding, hint = inspect_folders(folder / "images", folder / "labels").findings
    assert str(folder / "labels") in finding.message
    assert f"{folder / 'labels' / 'p1'} (a folder" in hint.message
    with pytest.raises(RequestError) as caught:
        find_cases(folder / "images", folder / "labels")
    said(caught, folder / "labels")


@pytest.mark.parametrize(
    ("scan_name", "label_name", "hint"),
    [
        ("p1_0000.nii.gz", "p1.nii.gz", "did you mean p1_0000"),
        ("p2.nii.gz", "p2_seg.nii.gz", r"\bp2\?.* p2\.nii\.gz"),
        ("p2.nii.gz", "p2-label.nrrd", r" p2\.nrrd"),
        ("p2.nii.gz", "mask_p2.nii.gz", r" p2\.nii\.gz"),
        ("patient_2.nii.gz", "patient2.nii.gz", "did you mean patient_2"),
        ("p3_t1.nii.gz", "p3.nii.gz", "did you mean p3_t1"),
        ("other.nii.gz", "p4.nii.gz", "add it or remove this"),
    ],
)
def test_a_scan_under_another_name(folder, save, scan, label, said, scan_name, label_name, hint):
    save(scan, f"images/{scan_name}")
    path = save(label, f"labels/{label_name}")
    with pytest.raises(RequestError, match=hint) as caught:
        find_cases(folder / "images", folder / "labels")
    assert "no scan in" in said(caught, path)


def test_channels_of_nnunet(folder, save, scan, label, said):
    for channel in (0, 1):
        save(scan, f"images/p1_000{channel}.nii.gz")
    path = save(label, "labels/p1.nii.gz")
    with pytest.raises(RequestError, match=r"p1_0000 and p1_0001.* folder") as caught:
        find_cases(folder / "images", folder / "labels")
    said(caught, path)


@pytest.mark.parametrize("deep", ["series", "study/series", "patient/study/series"])
def test_dicom_too_deep(folder, save, ct, label, said, events, heard, deep):
    write_series(folder / "images" / "p3" / deep, ct)
    save(ct, "images/p4.nii.gz")
    path = save(label, "labels/p3.nii.gz")
    with pytest.raises(RequestError, match="too deep") as caught:
        find_cases(folder / "images", folder / "labels")
    assert str(folder / "images" / "p3" / deep) in said(caught, path)
    find_cases(folder / "images", None, events=events)
    assert [Path(event["file"]).name for event in heard] == ["p3"], "it is not passed over in silence"


def test_a_segmentation_beside_its_scan_needs_no_words(folder, save, scan, label, events, heard):
    for name in ("a.nrrd", "b/t1.nrrd"):
        save(scan, f"images/{name}")
        save(label, f"images/{name.replace('.', '.seg.')}")
    found = find_cases(folder / "images", None, events=events)[0], find_images([folder / "images"], events=events)
    assert [[case.name for case in cases] for cases in found] == [["a", "b"]] * 2
    assert heard == []


def test_a_slice_by_itself_is_called_so_whatever_its_ending(folder, save, scan, ct, events, heard):
    save(scan, "images/a.nii.gz")
    write_series(folder / "one", ct[:, :, :1])
    (slice_,) = (folder / "one").iterdir()
    slice_.rename(folder / "images" / "b.IMA")
    find_cases(folder / "images", None, events=events)
    assert "a DICOM file by itself" in heard[0]["message"]


def test_a_segmentation_or_a_slice_given_as_a_scan(folder, save, label, ct, said):
    path = save(label, "a.seg.nrrd")
    with pytest.raises(RequestError, match="a segmentation and no scan") as caught:
        find_images([path])
    said(caught, path)
    write_series(folder / "CT", ct)
    with pytest.raises(RequestError, match="folder of their own") as caught:
        find_images([folder / "CT" / "IM30001"])
    said(caught, folder / "CT" / "IM30001")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems have no such names")
def test_names_that_are_no_text(folder, save, scan, label, ct, events, heard):
    for kind, content in (("images", scan), ("labels", label)):
        save(content, f"{kind}/b.nii.gz")
        path = save(content, f"{kind}/a.nii.gz")
        os.rename(path, os.fsencode(path.parent) + b"/M\xfcller.nii.gz")
    write_series(folder / "images" / "series", ct)
    os.rename(folder / "images" / "series", os.fsencode(folder / "images") + b"/s\xe9rie")
    write_series(folder / "images" / "c", ct)
    os.rename(folder / "images" / "c" / "IM30004", os.fsencode(folder / "images" / "c") + b"/\xe9")
    for cases in (find_images([folder / "images"], events=events), find_cases(folder / "images", None)[0]):
        assert [case.name for case in cases] == [r"M\xfcller", "b", "c", r"s\xe9rie"]
        for case in (cases[0], cases[3]):
            with pytest.raises(ScanError, match="not UTF-8; rename it"):
                read_image(case.images[0])
    with pytest.raises(ScanError, match="not UTF-8; rename it"):
        find_cases(folder / "images", folder / "labels")
    assert "1 of its DICOM files are not UTF-8" in messages(heard)[0]
    errors = [
        f.message for f in inspect_folders(folder / "images", folder / "labels").findings if f.severity == "error"
    ]
    assert len(errors) == 1
    assert r"M\xfcller.nii.gz is not UTF-8" in errors[0]
    assert [case.name for case in find_labels(folder / "labels")[0]] == [r"M\xfcller", "b"]
