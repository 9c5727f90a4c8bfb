"""Scene -> files -> scene: every voxel stays where it was in the world.

The files in between are read with SimpleITK, which shares no code with Slicer's readers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from scene_content import (
    GRIDS,
    SAMPLES,
    SEGMENTS,
    add_segmentation,
    add_transform,
    add_volume,
    file_points,
    image_grid,
    oblique,
    ordered,
    points_of,
    sample,
    segment_points,
)

from GLMAESegmentationLib.scene.segmentation_export import export_segmentation
from GLMAESegmentationLib.scene.segmentation_import import import_segmentation
from GLMAESegmentationLib.scene.volume_export import export_volume


def halves(label: np.ndarray) -> dict[str, np.ndarray]:
    return {"anterior": label == 1, "posterior": label == 2}


def round_trip(segmentation: Any, volume: Any, folder: Path) -> Any:
    export_volume(volume, folder / "images" / "case-01.nrrd")
    export_segmentation(segmentation, volume, folder / "labels" / "case-01.seg.nrrd")
    return import_segmentation(folder / "labels" / "case-01.seg.nrrd", volume)


def assert_same_points(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("grid", GRIDS)
def test_volume_keeps_voxels_and_place(scene: Any, job_folder: Path, grid: str) -> None:
    scan, _ = sample()
    export_volume(add_volume(scan, GRIDS[grid]), job_folder / "v.nrrd")
    image = sitk.ReadImage(str(job_folder / "v.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan)
    np.testing.assert_allclose(image_grid(image), GRIDS[grid], atol=1e-9)


def test_volume_whose_first_voxel_has_another_index(scene: Any, job_folder: Path) -> None:
    """Image data in a scene may start at any index; a file starts at 0."""
    scan, _ = sample()
    grid = GRIDS["oblique"]
    volume = add_volume(scan, grid)
    volume.GetImageData().SetExtent(*np.add(np.array(volume.GetImageData().GetExtent()), [3, 3, -2, -2, 5, 5]).tolist())
    export_volume(volume, job_folder / "v.nrrd")
    image = sitk.ReadImage(str(job_folder / "v.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan)
    np.testing.assert_allclose(image_grid(image)[:, 3], grid @ [3, -2, 5, 1], atol=1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_segments_come_back_where_they_were(scene: Any, job_folder: Path, grid: str) -> None:
    scan, label = sample()
    volume = add_volume(scan, GRIDS[grid])
    masks = halves(label)
    segmentation = add_segmentation(masks, GRIDS[grid])
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    result = round_trip(segmentation, volume, job_folder)
    in_file = file_points(job_folder / "labels" / "case-01.seg.nrrd")
    for identifier, mask in masks.items():
        expected = points_of(mask, GRIDS[grid])
        assert_same_points(in_file[SEGMENTS[identifier][0]], expected)
        assert_same_points(segment_points(result, identifier), expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_overlap_is_kept_in_cropped_layers_of_different_extents(scene: Any, job_folder: Path, grid: str) -> None:
    scan, label = sample()
    volume = add_volume(scan, GRIDS[grid])
    whole = label > 0
    ball = np.zeros_like(whole)
    ball[20:30, 10:30, 5:25] = True
    segmentation = add_segmentation({"whole": whole[3:30, 5:48, 4:30]}, GRIDS[grid], first=(4, 5, 3))
    other = add_segmentation({"ball": ball[18:32, 8:32, 3:27]}, GRIDS[grid], first=(3, 8, 18))
    segmentation.GetSegmentation().AddSegment(other.GetSegmentation().GetSegment("ball"), "ball")
    slicer.mrmlScene.RemoveNode(other)
    assert (whole & ball).any()
    assert (ball & ~whole).any()

    result = round_trip(segmentation, volume, job_folder)
    in_file = file_points(job_folder / "labels" / "case-01.seg.nrrd")
    for identifier, mask in {"whole": whole, "ball": ball}.items():
        expected = points_of(mask, GRIDS[grid])
        assert_same_points(in_file[identifier], expected)
        assert_same_points(segment_points(result, identifier), expected)
    written = sitk.ReadImage(str(job_folder / "labels" / "case-01.seg.nrrd"))
    assert written.GetNumberOfComponentsPerPixel() == 2
    union = np.argwhere(whole | ball)
    assert written.GetSize() == tuple((np.ptp(union, axis=0) + 1)[::-1])  # cropped to what holds segments


def test_cropped_grid_shifted_by_whole_voxels(scene: Any, job_folder: Path) -> None:
    """A crop whose own origin differs, as other programs write it; it reaches beyond the volume."""
    scan, _ = sample()
    grid = GRIDS["oblique"]
    volume = add_volume(scan, grid)
    shifted = grid.copy()
    shifted[:3, 3] = (grid @ [6, -5, 4, 1])[:3]  # mask index (0, 0, 0) is voxel (6, -5, 4) of the volume
    masks = {"anterior": np.ones((9, 8, 7), bool), "posterior": np.zeros((9, 8, 7), bool)}
    masks["anterior"][2:4] = False
    masks["posterior"][2:4, 3:, 3:] = True
    result = round_trip(add_segmentation(masks, shifted), volume, job_folder)
    for identifier, mask in masks.items():
        assert_same_points(segment_points(result, identifier), points_of(mask, shifted))


def test_without_reference_geometry(scene: Any, job_folder: Path) -> None:
    scan, label = sample()
    grid = GRIDS["LAS_left_handed"]
    volume = add_volume(scan, grid)
    segmentation = add_segmentation(halves(label), grid)
    assert segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole()) is None
    result = round_trip(segmentation, volume, job_folder)
    for identifier, mask in halves(label).items():
        assert_same_points(segment_points(result, identifier), points_of(mask, grid))
    assert result.GetNodeReference(result.GetReferenceImageGeometryReferenceRole()) is volume


def test_reference_geometry_of_another_volume_does_not_resample(scene: Any, job_folder: Path) -> None:
    """Slicer's writer resamples to the stored reference geometry; the export must not."""
    scan, label = sample()
    grid = GRIDS["oblique"]
    volume = add_volume(scan, grid)
    coarse = add_volume(scan[::3, ::3, ::3], grid @ np.diag([3.0, 3.0, 3.0, 1.0]), "coarse")
    segmentation = add_segmentation(halves(label), grid)
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(coarse)
    result = round_trip(segmentation, volume, job_folder)
    assert_same_points(segment_points(result, "anterior"), points_of(label == 1, grid))


def test_a_left_handed_file_as_slicer_loads_it(scene: Any, job_folder: Path) -> None:
    """Slicer flips a left-handed NIfTI along K on load; left and right must not change sides."""
    scan, label = sample()
    job_folder.mkdir(parents=True)
    for name, array in {"scan": scan, "label": label}.items():
        image = sitk.GetImageFromArray(array)
        image.SetDirection([1, 0, 0, 0, -1, 0, 0, 0, 1])  # LAS in Slicer's terms
        sitk.WriteImage(image, str(job_folder / f"{name}.nii.gz"))
    volumes = slicer.modules.volumes.logic()
    volume = volumes.AddArchetypeVolume(str(job_folder / "scan.nii.gz"), "scan")
    labelmap = volumes.AddArchetypeVolume(str(job_folder / "label.nii.gz"), "label", 1)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
    result = round_trip(segmentation, volume, job_folder)

    expected = points_of(label == 1, image_grid(sitk.ReadImage(str(job_folder / "label.nii.gz"))))
    first = segmentation.GetSegmentation().GetNthSegmentID(0)
    assert_same_points(segment_points(result, first), expected)
    before, after = (sitk.ReadImage(str(p)) for p in (job_folder / "scan.nii.gz", job_folder / "images/case-01.nrrd"))
    back = sitk.Resample(after, before, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), scan)


@pytest.mark.parametrize("kind", ["same", "different", "only_volume", "only_segmentation", "nested"])
def test_parent_transforms(scene: Any, job_folder: Path, kind: str) -> None:
    """The segment stands at the same place in the world as before, and the file in the volume's own coordinates."""
    scan, label = sample()
    grid = GRIDS["oblique"]
    to_world = {"volume": np.eye(4), "segmentation": np.eye(4)}
    one, two = oblique((1, 1, 1), (5, 60, -15)), oblique((1, 1, 1), (-80, 12, 33))
    volume = add_volume(scan, grid)
    first, second = add_transform(one), add_transform(two)
    if kind == "same":
        to_world = {"volume": one, "segmentation": one}
        volume_parent, segmentation_parent = first, first
    elif kind == "different":
        to_world = {"volume": one, "segmentation": two}
        volume_parent, segmentation_parent = first, second
    elif kind == "only_volume":
        to_world["volume"] = one
        volume_parent, segmentation_parent = first, None
    elif kind == "only_segmentation":
        to_world["segmentation"] = two
        volume_parent, segmentation_parent = None, second
    else:
        to_world = {"volume": two @ one, "segmentation": two}
        volume_parent, segmentation_parent = add_transform(one, second), second
    # Drawn where the structure is in the world: the segmentation's own coordinates differ from the volume's.
    own_grid = np.linalg.inv(to_world["segmentation"]) @ to_world["volume"] @ grid
    segmentation = add_segmentation(halves(label), own_grid)
    for node, parent in ((volume, volume_parent), (segmentation, segmentation_parent)):
        node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)

    result = round_trip(segmentation, volume, job_folder)
    assert result.GetParentTransformNode() is volume_parent
    in_file = file_points(job_folder / "labels" / "case-01.seg.nrrd")
    for identifier, mask in halves(label).items():
        assert_same_points(in_file[SEGMENTS[identifier][0]], points_of(mask, grid))
        local = segment_points(result, identifier)
        world = (np.c_[local, np.ones(len(local))] @ to_world["volume"].T)[:, :3]
        assert_same_points(ordered(world), points_of(mask, to_world["volume"] @ grid))


def test_names_colors_terminology_and_empty_segments_survive(scene: Any, job_folder: Path) -> None:
    scan, label = sample()
    volume = add_volume(scan, GRIDS["RAS"])
    masks = halves(label) | {"not drawn": np.zeros_like(label)}
    result = round_trip(add_segmentation(masks, GRIDS["RAS"]), volume, job_folder)
    source = result.GetSegmentation()
    assert source.GetNumberOfSegments() == 3
    for identifier, (name, color, terminology) in SEGMENTS.items():
        segment = source.GetSegment(identifier)
        assert segment.GetName() == name
        assert segment.GetColor() == pytest.approx(color, abs=1e-5)
        entry = slicer.vtkSegment.GetTerminologyEntryTagName()
        stored = vtk.reference("")
        assert segment.GetTag(entry, stored)
        assert str(stored) == terminology
    assert len(segment_points(result, "not drawn")) == 0


@pytest.mark.parametrize("name", ["hippocampus_039", "hippocampus_230"])
def test_loaded_sample_scans(scene: Any, job_folder: Path, name: str) -> None:
    volumes = slicer.modules.volumes.logic()
    volume = volumes.AddArchetypeVolume(str(SAMPLES / "images" / f"{name}.nii.gz"), name)
    labelmap = volumes.AddArchetypeVolume(str(SAMPLES / "labels" / f"{name}.nii.gz"), f"{name} label", 1)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
    result = round_trip(segmentation, volume, job_folder)
    label = sitk.ReadImage(str(SAMPLES / "labels" / f"{name}.nii.gz"))
    for index in range(2):
        identifier = segmentation.GetSegmentation().GetNthSegmentID(index)
        expected = points_of(sitk.GetArrayFromImage(label) == index + 1, image_grid(label))
        assert_same_points(segment_points(result, identifier), expected)
