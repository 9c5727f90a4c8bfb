"""The preparation of labeled scans stays when a label is added, unless the scans are unlike each other."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import ScanError
from glmae.scans.cases import find_cases
from glmae.scans.fingerprint import gather
from glmae.scans.labels import case_images
from glmae.scans.lasting_plan import lasting_plan
from glmae.scans.measurement import measure, measure_each
from glmae.scans.preparation import plan_preparation

MANY = 70_000  # voxels: of these scans none is to become coarser, and none smaller than a crop


@pytest.fixture
def save(tmp_path):
    """Writes a scan of some spacing with a ball of some brightness, in Hounsfield units."""

    def write(name: str, spacing: float, brightness: float = 60.0, value: int = 1) -> None:
        rng = np.random.default_rng(len(name))
        image = np.full((20, 20, 20), -1000, dtype=np.int16)
        label = np.zeros((20, 20, 20), dtype=np.uint8)
        image[3:17, 3:17, 3:17] = rng.normal(20, 10, (14, 14, 14))
        image[8:13, 8:13, 8:13] = rng.normal(brightness, 10, (5, 5, 5))
        label[8:13, 8:13, 8:13] = value
        for kind, voxels in (("images", image), ("labels", label)):
            (tmp_path / kind).mkdir(exist_ok=True)
            volume = sitk.GetImageFromArray(voxels)
            volume.SetSpacing((spacing,) * 3)
            sitk.WriteImage(volume, str(tmp_path / kind / f"{name}.nii.gz"))

    return write


def plan_of(folder, *names):
    cases, table = find_cases(folder / "images", folder / "labels", names)
    return lasting_plan(measure_each(cases, table), table, MANY, names)


def test_a_further_label_changes_nothing_where_the_scans_are_alike(save, tmp_path):
    for name, spacing in (("b", 1.0), ("a", 1.1), ("c", 0.95), ("d", 1.05)):
        save(name, spacing)
    first = plan_of(tmp_path, "b")
    assert first.preparation.spacing == (1.0, 1.0, 1.0)
    assert first.names == {"b"}
    for names in ("ba", "bac", "bacd"):
        assert plan_of(tmp_path, *names) == first, names
    assert plan_of(tmp_path, "a", "b").preparation.spacing == pytest.approx((1.1,) * 3), "the order counts"


def test_scans_that_are_unlike_are_planned_for_together(save, tmp_path):
    for name, spacing in (("a", 5.0), ("b", 1.0), ("c", 1.0), ("d", 1.1)):
        save(name, spacing)
    assert plan_of(tmp_path, "a", "b").preparation.spacing == (3.0, 3.0, 3.0)
    three = plan_of(tmp_path, "a", "b", "c")
    assert three.preparation.spacing == (1.0, 1.0, 1.0)
    assert plan_of(tmp_path, "a", "b", "c", "d") == three, "not for each label"


def test_a_new_class_is_planned_for_at_once(save, tmp_path):
    for name, brightness, value in (("a", 60.0, 1), ("b", 60.0, 1), ("c", 900.0, 2)):
        save(name, 1.0, brightness, value)
    (narrow,) = plan_of(tmp_path, "a", "b").preparation.normalization
    (wide,) = plan_of(tmp_path, "a", "b", "c").preparation.normalization
    assert narrow.kind == wide.kind == "ct"
    assert narrow.high < 300 < 900 < wide.high, "its values would have been clipped"


def test_one_scan_is_planned_as_ever(sample_scans):
    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", ["hippocampus_039"])
    plan = lasting_plan(measure_each(cases, table), table, 128**3)
    assert plan.preparation == plan_preparation(measure(cases, table), 128**3)


def test_what_is_known_is_not_read_again(few_scans, monkeypatch):
    read = []

    def counted(case, events):
        read.append(case.images[0].name)
        return case_images(case, events)

    monkeypatch.setattr("glmae.scans.measurement.case_images", counted)
    images, labels = few_scans / "images", few_scans / "labels"
    cases, table = find_cases(images, labels)
    known: dict = {}
    before = gather(measure_each(cases, table, known=known), table)
    assert len(read) == 3
    read.clear()
    assert gather(measure_each(cases, table, known=known), table) == before
    assert read == []
    shutil.copy(labels / "hippocampus_039.nii.gz", labels / "again.nii.gz")
    os.replace(labels / "again.nii.gz", labels / "hippocampus_039.nii.gz")
    assert gather(measure_each(cases, table, known=known), table) == before
    assert read == ["hippocampus_039.nii.gz"], "another file of the same name"
    assert len(known) == 3
    (images / "hippocampus_003.nii.gz").unlink()
    with pytest.raises(ScanError):
        measure_each(cases, table, known=known)
