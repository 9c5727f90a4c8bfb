"""Where voxels cannot be kept: the export equals nearest-neighbor resampling to the volume's grid, done once."""

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
    SEGMENTS,
    add_segmentation,
    add_transform,
    add_volume,
    add_warp,
    file_points,
    image_grid,
    oblique,
    points_of,
    sample,
)

from glmae.errors import ScanError
from GLMAESegmentationLib.scene.segmentation_export import export_segmentation
from GLMAESegmentationLib.scene.volume_export import export_volume, volume_image

MARGIN = 0.02  # voxels: closer than this to the border of two voxels, either of them is the nearest


def nearest_neighbor(mask: np.ndarray, mask_grid: np.ndarray, shape: tuple[int, ...], to_mask: Any) -> tuple:
    """`mask` [K, J, I] sampled at every voxel of a grid; `to_mask` maps its indices [N, 3] to RAS mm of the mask.

    Also returns where the answer is clear, that is, not within MARGIN of the border between two voxels.
    """
    kji = np.indices(shape).reshape(3, -1).T
    points = to_mask(kji[:, ::-1].astype(float))
    index = (np.c_[points, np.ones(len(points))] @ np.linalg.inv(mask_grid).T)[:, :3]
    nearest = np.round(index).astype(int)
    inside = np.all((nearest >= 0) & (nearest < mask.shape[::-1]), axis=1)
    sampled = np.zeros(len(kji), bool)
    i, j, k = nearest[inside].T
    sampled[inside] = mask[k, j, i]
    clear = np.all(np.abs(np.abs(index - np.floor(index)) - 0.5) > MARGIN, axis=1)
    return sampled.reshape(shape), clear.reshape(shape)


def assert_nearest(path: Path, name: str, grid: np.ndarray, expected: np.ndarray, clear: np.ndarray) -> None:
    written = file_points(path)[name]
    exact = (np.c_[written, np.ones(len(written))] @ np.linalg.inv(grid).T)[:, :3]
    np.testing.assert_allclose(exact, np.round(exact), atol=1e-3)  # on the voxels of the grid, not between them
    index = np.round((np.c_[written, np.ones(len(written))] @ np.linalg.inv(grid).T)[:, :3]).astype(int)
    found = np.zeros(expected.shape, bool)
    found[tuple(index[:, ::-1].T)] = True
    assert expected.sum() > 200
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_finer_oblique_segmentation_is_written_on_its_own_grid(scene: Any, job_folder: Path) -> None:
    """No resampling here at all: the engine places the file by world coordinates and resamples once."""
    scan, label = sample()
    own = oblique((0.5, 0.6, 0.7), (3, 4, 5))
    volume = add_volume(scan, GRIDS["oblique"])
    export_segmentation(add_segmentation({"anterior": label == 1}, own), volume, job_folder / "a.seg.nrrd")
    found = file_points(job_folder / "a.seg.nrrd")[SEGMENTS["anterior"][0]]
    np.testing.assert_allclose(found, points_of(label == 1, own), atol=1e-3)


def test_segments_on_different_grids(scene: Any, job_folder: Path) -> None:
    """One file has one grid: the volume's, so that no segment is resampled twice."""
    scan, label = sample()
    grid = GRIDS["RAS"]
    fine, coarse = (grid @ oblique(spacing, (2, 1, 3)) for spacing in ((0.8, 0.7, 0.9), (1.9, 1.9, 2.3)))
    for own in (fine, coarse):
        own[:3, 3] = (2.0, -6.0, 12.0)
    masks = {"anterior": (label > 0, fine), "coarse": (label[::2, ::2, ::2] > 0, coarse)}
    volume = add_volume(scan, grid)
    segmentation = add_segmentation({"anterior": masks["anterior"][0]}, fine)
    other = add_segmentation({"coarse": masks["coarse"][0]}, coarse)
    segmentation.GetSegmentation().AddSegment(other.GetSegmentation().GetSegment("coarse"), "coarse")
    export_segmentation(segmentation, volume, job_folder / "a.seg.nrrd")
    for name, (mask, own) in masks.items():
        expected, clear = nearest_neighbor(
            mask, own, scan.shape, lambda ijk: (np.c_[ijk, np.ones(len(ijk))] @ grid.T)[:, :3]
        )
        assert_nearest(job_folder / "a.seg.nrrd", SEGMENTS.get(name, (name,))[0], grid, expected, clear)


def test_sheared_difference_between_the_two_frames(scene: Any, job_folder: Path) -> None:
    scan, label = sample()
    grid = GRIDS["oblique"]
    stretch = np.diag([1.2, 0.9, 1.1, 1.0])  # along the patient's axes, so it shears an oblique grid
    volume = add_volume(scan, grid)
    segmentation = add_segmentation({"anterior": label > 0}, grid)
    segmentation.SetAndObserveTransformNodeID(add_transform(stretch).GetID())
    export_segmentation(segmentation, volume, job_folder / "a.seg.nrrd")
    to_mask = np.linalg.inv(stretch) @ grid
    expected, clear = nearest_neighbor(
        label > 0, grid, scan.shape, lambda ijk: (np.c_[ijk, np.ones(len(ijk))] @ to_mask.T)[:, :3]
    )
    assert_nearest(job_folder / "a.seg.nrrd", SEGMENTS["anterior"][0], grid, expected, clear)


@pytest.mark.parametrize("warped", ["segmentation", "volume"])
def test_non_linear_transform_between_the_two(scene: Any, job_folder: Path, warped: str) -> None:
    scan, label = sample()
    grid = GRIDS["anisotropic_PIR"]
    volume = add_volume(scan, grid)
    segmentation = add_segmentation({"anterior": label > 0}, grid)
    warp = add_warp()
    {"segmentation": segmentation, "volume": volume}[warped].SetAndObserveTransformNodeID(warp.GetID())
    export_segmentation(segmentation, volume, job_folder / "a.seg.nrrd")

    spline = warp.GetTransformToParent() if warped == "volume" else warp.GetTransformToParent().GetInverse()

    def to_mask(ijk: np.ndarray) -> np.ndarray:
        local = (np.c_[ijk, np.ones(len(ijk))] @ grid.T)[:, :3]
        return np.array([spline.TransformPoint(*point) for point in local])

    expected, clear = nearest_neighbor(label > 0, grid, scan.shape, to_mask)
    assert (expected != (label > 0)).sum() > 100  # the warp is felt
    assert_nearest(job_folder / "a.seg.nrrd", SEGMENTS["anterior"][0], grid, expected, clear)


def test_same_warp_above_both_changes_nothing(scene: Any, job_folder: Path) -> None:
    scan, label = sample()
    grid = GRIDS["oblique"]
    volume, segmentation = add_volume(scan, grid), add_segmentation({"anterior": label > 0}, grid)
    warp = add_warp()
    for node in (volume, segmentation):
        node.SetAndObserveTransformNodeID(warp.GetID())
    export_segmentation(segmentation, volume, job_folder / "a.seg.nrrd")
    found = file_points(job_folder / "a.seg.nrrd")[SEGMENTS["anterior"][0]]
    np.testing.assert_allclose(found, points_of(label > 0, grid), atol=1e-3)


def test_a_surface_becomes_voxels_of_the_volume(scene: Any, job_folder: Path) -> None:
    scan, _ = sample()
    grid = GRIDS["oblique"]
    volume = add_volume(scan, grid)
    center = (grid @ [15, 25, 17, 1])[:3]
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*center)
    sphere.SetRadius(8)
    sphere.SetThetaResolution(60)
    sphere.SetPhiResolution(60)
    sphere.Update()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segmentation.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", [1, 0, 0])
    export_segmentation(segmentation, volume, job_folder / "a.seg.nrrd")
    assert not segmentation.GetSegmentation().ContainsRepresentation("Binary labelmap")
    found = file_points(job_folder / "a.seg.nrrd")["ball"]
    every = points_of(np.ones(scan.shape, bool), grid)
    distance = np.linalg.norm(every - center, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found - center, axis=1).max(), 8, atol=0.3)
    assert (distance < 7.8).sum() <= len(found) <= (distance < 8.2).sum()


def test_second_channel_in_the_frame_of_the_first(scene: Any, job_folder: Path) -> None:
    scan, _ = sample()
    grid, turn = GRIDS["oblique"], oblique((1, 1, 1), (0, 0, 25))
    first, second = add_volume(scan, grid), add_volume(scan, np.linalg.inv(turn) @ grid, "T2")
    second.SetAndObserveTransformNodeID(add_transform(turn).GetID())
    export_volume(second, job_folder / "b.nrrd", frame=first)
    image = sitk.ReadImage(str(job_folder / "b.nrrd"))
    np.testing.assert_allclose(image_grid(image), grid, atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan)  # a rigid difference needs no resampling


def test_second_channel_under_a_warp_is_resampled_to_the_first(scene: Any) -> None:
    k, j, i = np.indices((20, 22, 24)).astype(np.float32)
    grid = GRIDS["RAS"]
    ramp = 3 * i + 2 * j - k
    first, second = add_volume(ramp * 0, grid), add_volume(ramp, grid, "T2")
    warp = add_warp()
    second.SetAndObserveTransformNodeID(warp.GetID())
    image = volume_image(second, frame=first)
    np.testing.assert_allclose(image_grid(image), grid, atol=1e-9)
    back = warp.GetTransformToParent().GetInverse()
    for voxel in [(10, 11, 12), (8, 9, 7), (13, 10, 9)]:
        point = (grid @ [*voxel, 1])[:3]
        x, y, z = (np.linalg.inv(grid) @ [*back.TransformPoint(*point), 1])[:3]
        assert image.GetPixel(voxel) == pytest.approx(3 * x + 2 * y - z, abs=0.02)


def test_what_cannot_be_exported_is_named(scene: Any, job_folder: Path) -> None:
    scan, label = sample()
    volume = add_volume(scan, GRIDS["RAS"], "T1 Müller")
    sheared = add_volume(scan, GRIDS["RAS"] @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "x")
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hollow")
    color = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    slicer.util.updateVolumeFromArray(color, np.zeros((3, 4, 5, 3), np.uint8))
    for node, words in [(sheared, "sheared"), (empty, "holds no voxels"), (color, "3 values a voxel")]:
        with pytest.raises(ScanError, match=words) as caught:
            export_volume(node, job_folder / "x.nrrd")
        assert f'"{node.GetName()}"' in str(caught.value)
    bare = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
    with pytest.raises(ScanError, match='"bare" has no segments'):
        export_segmentation(bare, volume, job_folder / "x.seg.nrrd")
    blank = add_segmentation({"anterior": label * 0}, GRIDS["RAS"], "blank")
    with pytest.raises(ScanError, match='All segments of "blank" are empty'):
        export_segmentation(blank, volume, job_folder / "x.seg.nrrd")
    assert not job_folder.exists() or list(job_folder.iterdir()) == []
