"""The way of a label through the engine's own files: scene -> case -> training label -> result file -> scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scene_content import (
    GRIDS,
    SEGMENTS,
    add_segmentation,
    add_transform,
    add_volume,
    image_grid,
    oblique,
    points_of,
    sample,
    segment_points,
)
from test_resampled_export import nearest_neighbor

from glmae.scans.cases import find_cases
from glmae.scans.classes import ClassTable
from glmae.scans.image import read_image
from glmae.scans.labels import read_label
from glmae.scans.segmentation_file import read_segmentation, write_segmentation
from GLMAESegmentationLib.jobs.case_folder import CaseFolder, export_cases
from GLMAESegmentationLib.scene.scene_cases import SceneCase
from GLMAESegmentationLib.scene.segment_classes import class_table, segment_id_of
from GLMAESegmentationLib.scene.segmentation_import import import_segmentation


def through_the_engine(folder: CaseFolder, volume: Any, classes: ClassTable | None = None) -> tuple[Any, sitk.Image]:
    """What fine-tuning reads of the first case, written as a perfect segmentation of it and imported."""
    (case,), found = find_cases(folder.images, folder.labels)
    classes = classes or found
    label = read_label(case, read_image(case.images[0]), classes)
    values = {number: entry.value for number, entry in enumerate(classes, start=1)}
    result = sitk.ChangeLabel(sitk.Cast(label, sitk.sitkUInt16), values)
    write_segmentation(folder.folder / "out" / f"{case.name}.seg.nrrd", result, classes)
    return import_segmentation(folder.folder / "out" / f"{case.name}.seg.nrrd", volume), label


def result_points(result: Any, drawn: Any, identifier: str) -> np.ndarray:
    wanted = class_table(drawn).classes[list(SEGMENTS).index(identifier)]
    found = segment_id_of(result, wanted)
    assert found is not None
    return segment_points(result, found)


@pytest.mark.parametrize("transform", ["none", "volume", "both different"])
@pytest.mark.parametrize("grid", GRIDS)
def test_to_the_voxel(scene: Any, job_folder: Path, grid: str, transform: str) -> None:
    scan, label = sample()
    volume_to_world = segmentation_to_world = np.eye(4)
    volume = add_volume(scan, GRIDS[grid])
    if transform != "none":
        volume_to_world = oblique((1, 1, 1), (5, 60, -15))
        volume.SetAndObserveTransformNodeID(add_transform(volume_to_world).GetID())
    if transform == "both different":
        segmentation_to_world = oblique((1, 1, 1), (-80, 12, 33))
    own = np.linalg.inv(segmentation_to_world) @ volume_to_world @ GRIDS[grid]
    # Cropped, as Slicer keeps segments: the masks begin at voxel (2, 3, 4) of the volume.
    cropped = label[4:33, 3:50, 2:33]
    assert (cropped > 0).sum() == (label > 0).sum()
    drawn = add_segmentation({"anterior": cropped == 1, "posterior": cropped == 2}, own, first=(2, 3, 4))
    if transform == "both different":
        drawn.SetAndObserveTransformNodeID(add_transform(segmentation_to_world).GetID())

    folder = export_cases([SceneCase((volume,), drawn)], job_folder)
    result, read = through_the_engine(folder, volume)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), label)
    np.testing.assert_allclose(image_grid(read), GRIDS[grid], atol=1e-6)
    assert result.GetParentTransformNode() is volume.GetParentTransformNode()
    for value, identifier in enumerate(SEGMENTS, start=1):
        expected = points_of(label == value, GRIDS[grid])
        found = result_points(result, drawn, identifier)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("grid", ["RAS", "LAS_left_handed", "oblique", "anisotropic_PIR"])
def test_other_grids_equal_nearest_neighbor(scene: Any, job_folder: Path, grid: str) -> None:
    """A segmentation at its own spacing and angle, under its own transform: resampled to the scan exactly once."""
    scan, label = sample()
    to_world = oblique((1, 1, 1), (-80, 12, 33))
    volume = add_volume(scan, GRIDS[grid])
    tilt = np.eye(4)
    tilt[:3, :3] = oblique((1, 1, 1), (2, -3, 4))[:3, :3]
    finer = tilt @ GRIDS[grid] @ np.diag([0.7, 0.8, 0.9, 1.0])  # turned in space, so that nothing is sheared
    drawn = add_segmentation(
        {"anterior": label == 1, "posterior": label == 2}, np.linalg.inv(to_world) @ finer, "tilted"
    )
    drawn.SetAndObserveTransformNodeID(add_transform(to_world).GetID())
    folder = export_cases([SceneCase((volume,), drawn)], job_folder)
    result, _ = through_the_engine(folder, volume)
    for value, identifier in enumerate(SEGMENTS, start=1):
        expected, clear = nearest_neighbor(
            label == value,
            finer,
            scan.shape,
            lambda ijk: (np.c_[ijk, np.ones(len(ijk))] @ GRIDS[grid].T)[:, :3],
        )
        points = result_points(result, drawn, identifier)
        index = np.round((np.c_[points, np.ones(len(points))] @ np.linalg.inv(GRIDS[grid]).T)[:, :3]).astype(int)
        found = np.zeros(scan.shape, bool)
        found[tuple(index[:, ::-1].T)] = True
        assert expected.sum() > 100
        assert clear.mean() > 0.8
        np.testing.assert_array_equal(found[clear], expected[clear])


def test_classes_come_back_with_their_looks_whatever_their_order(scene: Any, job_folder: Path) -> None:
    """Two cases with their segments in opposite order: one table, and each structure keeps its voxels."""
    scan, label = sample()
    masks = {"anterior": label == 1, "posterior": label == 2}
    cases = []
    for number, order in enumerate([("anterior", "posterior"), ("posterior", "anterior")]):
        volume = add_volume(scan, GRIDS["RAS"], f"scan {number}")
        drawn = add_segmentation({name: masks[name] for name in order}, GRIDS["RAS"], f"labels {number}")
        cases.append(SceneCase((volume,), drawn))
    folder = export_cases(cases, job_folder)
    found, classes = find_cases(folder.images, folder.labels)
    assert sorted(classes.names) == sorted(name for name, _, _ in SEGMENTS.values())
    numbers = {identifier: classes.find(SEGMENTS[identifier][0]) for identifier in SEGMENTS}
    for case in found:
        read = sitk.GetArrayFromImage(read_label(case, read_image(case.images[0]), classes))
        for identifier, mask in masks.items():
            np.testing.assert_array_equal(read == numbers[identifier], mask)
    for entry in classes:
        color, terminology = next(looks[1:] for looks in SEGMENTS.values() if looks[0] == entry.name)
        assert entry.color == pytest.approx(color, abs=1e-5)
        assert entry.terminology == terminology


def test_overlapping_segments_reach_the_engine_in_layers(scene: Any, job_folder: Path) -> None:
    scan, label = sample()
    volume = add_volume(scan, GRIDS["oblique_left_handed"])
    masks = {"whole": label > 0, "anterior": label == 1}
    drawn = add_segmentation(masks, GRIDS["oblique_left_handed"])
    folder = export_cases([SceneCase((volume,), drawn)], job_folder)
    file = read_segmentation(folder.labels / "case-01.seg.nrrd")
    assert file.layers == 2
    sizes = {s.meaning.name: int(sitk.GetArrayFromImage(file.layer(s.layer) == s.label).sum()) for s in file.segments}
    assert sizes == {"whole": (label > 0).sum(), SEGMENTS["anterior"][0]: (label == 1).sum()}
