"""What was read last is kept, but not much of it, and no longer than its file stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.events import silent
from glmae.scans import last_read
from glmae.scans.case import Case
from glmae.scans.cases import find_cases
from glmae.scans.classes import ClassTable
from glmae.scans.geometry import Geometry
from glmae.scans.labels import case_images, case_label

TABLE = ClassTable.from_labels((1, 2))


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def test_a_file_that_has_changed_is_read_again(save, scan, label):
    case = Case("one", (save(scan, "one.nrrd"),), save(label, "label.nrrd"))
    (first,), grid = case_images(case, silent()), Geometry.of(scan)
    assert case_images(case, silent())[0] is first
    np.testing.assert_array_equal(voxels(case_label(case, grid, TABLE, silent())), voxels(label))
    save(scan + 1, "one.nrrd")
    save(3 - label, "label.nrrd")
    np.testing.assert_array_equal(voxels(case_images(case, silent())[0]), voxels(scan + 1))
    numbers = voxels(case_label(case, grid, ClassTable.from_labels((1, 2, 3)), silent()))
    np.testing.assert_array_equal(numbers, voxels(3 - label))


def test_warnings_are_told_each_time(save, scan, label, events, heard):
    label[0, 0, 0] = 2
    fine = sitk.Expand(label, (2, 2, 2), sitk.sitkNearestNeighbor)
    case = Case("one", (save(scan, "one.nrrd"),), save(fine, "label.nrrd"))
    for _ in range(2):
        case_label(case, Geometry.of(scan), TABLE, events)
    assert [event["check"] for event in heard] == ["geometry", "geometry"]


@pytest.mark.parametrize("limit", ["_MOST", "_MOST_BYTES"])
def test_no_more_is_kept_than_a_few_scans(samples, monkeypatch, limit):
    cases, _ = find_cases(samples / "images", None)
    kept = [case_images(case, silent())[0] for case in cases[:3]]
    size = sum(image.GetNumberOfPixels() * image.GetSizeOfPixelComponent() for image in kept)
    monkeypatch.setattr(last_read, limit, {"_MOST": 2, "_MOST_BYTES": size - 1}[limit])
    assert case_images(cases[2], silent())[0] is kept[2]
    assert case_images(cases[0], silent())[0] is not kept[0]
