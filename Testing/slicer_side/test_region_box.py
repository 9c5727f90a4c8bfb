"""A region of interest bounds what is written of a scan; results still lie where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from scene_content import GRIDS, add_segmentation, add_transform, add_volume, array_of, image_grid, oblique, sample

from glmae.errors import RequestError
from glmae.scans.cases import find_cases
from glmae.scans.image import read_image
from glmae.scans.labels import read_label
from GLMAESegmentationLib.jobs.case_folder import CaseFolder
from GLMAESegmentationLib.jobs.case_writing import boxes_of
from GLMAESegmentationLib.scene.region_box import region_box
from GLMAESegmentationLib.scene.scene_cases import SceneCase


def add_roi(center: np.ndarray, size: tuple[float, float, float]) -> Any:
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Region")
    roi.SetCenter(*center)
    roi.SetSize(*size)
    return roi


def world(volume: Any, ijk: tuple[float, float, float]) -> np.ndarray:
    """Where a voxel is: the volume's own grid, then its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    point = array_of(matrix) @ [*ijk, 1]
    parent = volume.GetParentTransformNode()
    return (point if parent is None else slicer.util.arrayFromTransformMatrix(parent) @ point)[:3]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("grid", ["RAS", "LPS", "LAS_left_handed"])
def test_the_voxels_inside(scene: Any, grid: str, moved: bool) -> None:
    volume = add_volume(sample()[0], GRIDS[grid])
    if moved:
        shift = np.eye(4)
        shift[:3, 3] = (100, -20, 7)
        volume.SetAndObserveTransformNodeID(add_transform(shift).GetID())
    roi = add_roi(world(volume, (15, 20, 12)), (10.0, 8.0, 6.0))
    assert region_box(roi, volume) == ((10, 21), (16, 25), (9, 16))


def test_an_oblique_volume_gets_the_box_around(scene: Any) -> None:
    volume = add_volume(sample()[0], oblique((1, 1, 1), (0, 0, 45)))
    box = region_box(add_roi(world(volume, (17, 25, 15)), (10.0, 10.0, 10.0)), volume)
    assert box == ((10, 25), (18, 33), (10, 21))


def test_outside(scene: Any) -> None:
    volume = add_volume(sample()[0], GRIDS["RAS"], "CT")
    roi = add_roi(np.array([500.0, 0, 0]), (10.0, 10.0, 10.0))
    assert region_box(roi, volume) is None
    with pytest.raises(RequestError, match='CT lies outside "Region"'):
        boxes_of(roi, [volume])
    assert boxes_of(None, [volume]) == [None]


@pytest.mark.parametrize("grid", ["RAS", "oblique_left_handed"])
def test_a_case_inside_a_box_keeps_its_place(scene: Any, job_folder: Path, grid: str) -> None:
    scan, label = sample()
    volume = add_volume(scan, GRIDS[grid])
    drawn = add_segmentation({"anterior": label == 1, "posterior": label == 2}, GRIDS[grid])
    folder = CaseFolder(job_folder)
    folder.add(SceneCase((volume,), drawn), [((5, 25), (10, 40), (8, 30))])
    image = sitk.ReadImage(str(folder.images / "case-01.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan[8:30, 10:40, 5:25])
    np.testing.assert_allclose(image_grid(image)[:3, 3], (GRIDS[grid] @ [5, 10, 8, 1])[:3], atol=1e-5)
    (case,), classes = find_cases(folder.images, folder.labels)
    read = sitk.GetArrayFromImage(read_label(case, read_image(case.images[0]), classes))
    np.testing.assert_array_equal(read > 0, label[8:30, 10:40, 5:25] > 0)
