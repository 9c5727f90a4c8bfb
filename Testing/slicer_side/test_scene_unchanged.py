"""Export changes nothing in the scene; import adds one node and changes none."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import vtk
from scene_content import GRIDS, add_segmentation, add_transform, add_volume, add_warp, oblique, sample

from glmae.errors import ScanError
from GLMAESegmentationLib.jobs.case_folder import export_cases
from GLMAESegmentationLib.scene.scene_cases import SceneCase, find_cases
from GLMAESegmentationLib.scene.segmentation_import import import_segmentation


def state(scene: Any) -> dict[str, Any]:
    """What a user could notice of each node: attributes, references, modification, voxels, layers of segments."""
    found = {}
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        # The ID first: asking a node for it updates the node's modification time.
        transform = node.GetTransformNodeID() if node.IsA("vtkMRMLTransformableNode") else None
        entry: list[Any] = [node.GetName(), node.GetClassName(), transform, node.GetMTime()]
        if node.IsA("vtkMRMLStorableNode"):
            entry += [node.GetModifiedSinceRead(), node.GetNumberOfStorageNodes()]
        if node.IsA("vtkMRMLVolumeNode") and node.GetImageData():
            entry.append(digest(node.GetImageData()))
        if node.IsA("vtkMRMLSegmentationNode"):
            source = node.GetSegmentation()
            names = vtk.vtkStringArray()
            source.GetSegmentIDs(names)
            entry += [names.GetValue(n) for n in range(names.GetNumberOfValues())]
            entry += [source.GetMTime(), source.GetNumberOfLayers(), source.SerializeAllConversionParameters()]
            for n in range(source.GetNumberOfSegments()):
                image = source.GetNthSegment(n).GetRepresentation("Binary labelmap")
                entry += [image.GetMTime(), image.GetExtent(), digest(image), source.GetNthSegment(n).GetLabelValue()]
        found[node.GetID()] = entry
    return found


def digest(image: Any) -> str:
    scalars = image.GetPointData().GetScalars()
    return "" if scalars is None else hashlib.sha256(memoryview(scalars)).hexdigest()


@pytest.fixture
def case(scene: Any) -> SceneCase:
    scan, label = sample()
    volume = add_volume(scan, GRIDS["oblique"])
    masks = {"anterior": label == 1, "whole": label > 0, "posterior": label == 2}  # overlapping, so two layers at least
    segmentation = add_segmentation(masks, GRIDS["oblique"])
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return SceneCase((volume,), segmentation)


@pytest.mark.parametrize("transform", ["none", "linear", "warp"])
def test_export_changes_no_node(scene: Any, case: SceneCase, job_folder: Path, transform: str) -> None:
    if transform != "none":
        node = add_warp() if transform == "warp" else add_transform(oblique((1, 1, 1), (10, 20, 30)))
        case.segmentation.SetAndObserveTransformNodeID(node.GetID())
    assert case.segmentation.GetSegmentation().GetNumberOfLayers() == 3
    before = state(scene)
    export_cases([case], job_folder)
    assert state(scene) == before


def test_import_adds_one_node_and_changes_none(scene: Any, case: SceneCase, job_folder: Path) -> None:
    folder = export_cases([case], job_folder)
    before = state(scene)
    result = import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0])
    after = state(scene)
    added = {key for key in after if key not in before}
    assert added == {result.GetID(), result.GetDisplayNode().GetID()}
    hierarchy = scene.GetSubjectHierarchyNode().GetID()
    assert {k: v for k, v in after.items() if k in before and k != hierarchy} == {
        k: v for k, v in before.items() if k != hierarchy
    }


def test_every_import_is_a_new_node_with_a_name_of_its_own(scene: Any, case: SceneCase, job_folder: Path) -> None:
    folder = export_cases([case], job_folder)
    made = [import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0]) for _ in range(3)]
    assert len({node.GetID() for node in made}) == 3
    assert len({node.GetName() for node in made}) == 3
    assert made[0].GetName() == "T1 brain segmentation (GLMAE)"
    own = import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0], name=case.segmentation.GetName())
    assert own is not case.segmentation
    assert own.GetName() != case.segmentation.GetName()


def test_result_is_not_tied_to_the_job_folder(scene: Any, case: SceneCase, job_folder: Path) -> None:
    """The job folder is removed later; saving the scene must then still save the result."""
    folder = export_cases([case], job_folder)
    result = import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0])
    assert result.GetStorageNode() is None
    assert result.GetModifiedSinceRead()


@pytest.mark.parametrize("placed", ["study", "top level", "not in the hierarchy"])
def test_place_in_the_subject_hierarchy(scene: Any, case: SceneCase, job_folder: Path, placed: str) -> None:
    hierarchy = scene.GetSubjectHierarchyNode()
    parent = hierarchy.GetSceneItemID()
    if placed == "study":
        patient = hierarchy.CreateSubjectItem(parent, "patient")
        parent = hierarchy.CreateStudyItem(patient, "study")
    if placed != "not in the hierarchy":
        hierarchy.CreateItem(parent, case.volumes[0])
    folder = export_cases([case], job_folder)
    result = import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0])
    item = hierarchy.GetItemByDataNode(result)
    assert item != 0
    assert hierarchy.GetItemParent(item) == parent


def test_place_where_slicer_makes_items_by_itself(scene: Any, case: SceneCase, job_folder: Path) -> None:
    """In the application every new node gets an item at the top level at once; it is moved, not made twice."""
    hierarchy = scene.GetSubjectHierarchyNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def make_item(caller: Any, event: str, node: Any) -> None:
        if node.IsA("vtkMRMLSegmentationNode"):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    scene.AddObserver(scene.NodeAddedEvent, make_item)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, case.volumes[0])
    items = hierarchy.GetNumberOfItems()
    folder = export_cases([case], job_folder)
    result = import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0])
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
    assert hierarchy.GetNumberOfItems() == items + 1


def test_result_belongs_to_its_volume(scene: Any, case: SceneCase, job_folder: Path) -> None:
    folder = export_cases([case], job_folder)
    result = import_segmentation(folder.labels / "case-01.seg.nrrd", case.volumes[0])
    (found,) = find_cases(scene)
    assert found.segmentation is case.segmentation
    assert found.results == (result,)


@pytest.mark.parametrize("damage", ["missing", "text", "truncated"])
def test_a_damaged_result_leaves_the_scene_as_it_was(
    scene: Any, case: SceneCase, job_folder: Path, damage: str
) -> None:
    path = export_cases([case], job_folder).labels / "case-01.seg.nrrd"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"not an image" if damage == "text" else content[: len(content) // 2])
    before = state(scene)
    with pytest.raises(ScanError, match=r"case-01\.seg\.nrrd"):
        import_segmentation(path, case.volumes[0])
    assert state(scene) == before
