"""Every series of a tree, found by its tags: wherever its files lie, whatever they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series

from glmae.errors import RequestError
from glmae.events import recorded
from glmae.scans.case import Case
from glmae.scans.cases import find_images
from glmae.scans.dicom import DicomSeries
from glmae.scans.image import read_channels


@pytest.fixture
def ct(scan) -> sitk.Image:
    return sitk.Cast(sitk.RescaleIntensity(scan, -1000, 900), sitk.sitkInt16)[:, :, :9]


def found(root: Path) -> tuple[dict[str, Case], list[str]]:
    heard: list[dict[str, Any]] = []
    cases = {case.name: case for case in find_images([root], events=recorded(heard))}
    return cases, [event["message"] for event in heard]


def slices(case: Case) -> int:
    return read_channels(case.images)[0].GetSize()[2]


def test_the_series_of_studies(folder, ct):
    """Two series in one folder, one three folders down, one in the root; and what is no scan."""
    root = folder / "export"
    write_series(root / "P1" / "study A", ct, number=2)
    write_series(root / "P1" / "study A", ct[:, :, :5], number=11)
    write_series(root / "P2" / "b" / "c", ct[:, :, :7], number=3)
    write_series(root, ct[:, :, :6], number=4)
    (root / "P1" / "study A" / "read me.txt").write_text("hello", encoding="utf-8")
    write_series(root / "P2", ct[:, :, :3], number=5, tags={"0008|0008": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    write_series(root / "P2", ct[:, :, :1], number=6)
    write_series(root / "P2", ct[:, :, :4], number=7, tags={"0008|0060": "DOC"})
    cases, passed_over = found(root)
    assert {name: slices(case) for name, case in cases.items()} == {
        "P1_study A series 2": 9,
        "P1_study A series 11": 5,
        "P2_b_c": 7,
        "export": 6,
    }
    assert cases["P2_b_c"].images == (root / "P2" / "b" / "c",), "a folder with one series is named as such"
    text = " ".join(passed_over)
    for words in ("a localizer", "a single picture", "no scan by its modality"):
        assert words in text
    assert "Muster" not in text


def test_one_series_in_several_folders(folder, ct):
    write_series(folder / "root" / "all", ct, number=2)
    for number, file in enumerate(sorted((folder / "root" / "all").iterdir())):
        target = folder / "root" / f"DIR{number // 4}" / f"{1000 - number}"
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    (folder / "root" / "all").rmdir()
    cases, _ = found(folder / "root")
    assert list(cases) == ["root"]
    image = read_channels(cases["root"].images)[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(ct))
    assert isinstance(cases["root"].images[0], DicomSeries)


def test_one_identifier_in_two_patients(folder, ct):
    """Tools for removing names gave both the same; their slices lie at the same places."""
    for patient, count in (("P1", 9), ("P2", 6)):
        write_series(folder / patient, ct[:, :, :count], number=2)
    cases, _ = found(folder)
    assert {name: slices(case) for name, case in cases.items()} == {"P1": 9, "P2": 6}


def test_one_number_for_two_series(folder, ct):
    """Names stay apart, the same in every run, and do not tell the identifier."""
    write_series(folder / "P1", ct, number=2)
    write_series(folder / "P1", ct[:, :, :6], number=2, uid=77, names=list(range(20, 26)))
    cases, _ = found(folder)
    assert len(cases) == 2
    assert list(cases) == list(found(folder)[0])
    for name in cases:
        assert name.startswith("P1 series 2 ")
        assert "1125" not in name


def test_a_damaged_file_is_told(folder, ct):
    write_series(folder / "P1", ct, number=2)
    (folder / "P1" / "IM20008").write_bytes((folder / "P1" / "IM20008").read_bytes()[:300])
    _, passed_over = found(folder)
    assert passed_over[0].endswith("damaged: 1 of its DICOM files.")


def test_nothing_but_localizers(folder, ct):
    write_series(folder / "P1", ct, tags={"0008|0008": "LOCALIZER"})
    with pytest.raises(RequestError, match="no scans"):
        find_images([folder])


def test_beside_other_files(folder, ct, save, scan):
    save(scan, "a.nii.gz")
    save(scan, "two channels/1.nii.gz")
    write_series(folder / "b", ct)
    assert list(found(folder)[0]) == ["a", "b", "two channels"]
