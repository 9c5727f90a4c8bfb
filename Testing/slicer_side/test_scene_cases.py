from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scene_content import GRIDS, HIPPOCAMPUS, add_segmentation, add_volume

from glmae.scans.classes import SegmentClass
from GLMAESegmentationLib.scene.scan_kind import is_alike, scan_kind
from GLMAESegmentationLib.scene.scene_cases import find_cases, scan_volumes
from GLMAESegmentationLib.scene.segment_classes import class_table, segment_id_of
from GLMAESegmentationLib.scene.segmentation_import import RESULT_ATTRIBUTE, accept_result

VOXELS = np.ones((4, 5, 6), np.uint8)


def volume(name: str) -> Any:
    return add_volume(VOXELS, GRIDS["RAS"], name)


def drawn(name: str, *segments: str, of: Any = None) -> Any:
    node = add_segmentation(dict.fromkeys(segments or ("a",), VOXELS), GRIDS["RAS"], name)
    if of is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(of)
    return node


def pairs(scene: Any) -> dict[str, Any]:
    return {case.volumes[0].GetName(): case.segmentation for case in find_cases(scene)}


def test_reference_geometry_decides_against_the_name(scene: Any) -> None:
    one, two = volume("one"), volume("two")
    misleading = drawn("two segmentation", of=one)
    assert pairs(scene) == {"one": misleading, "two": None}
    assert two.GetName() == "two"


def test_reference_to_something_that_is_no_scan_gives_no_pair(scene: Any) -> None:
    scan = volume("one")
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "other")
    labelmap.CopyOrientation(scan)
    labelmap.SetAndObserveImageData(scan.GetImageData())
    drawn("one segmentation", of=labelmap)
    assert pairs(scene) == {"one": None}


def test_a_deleted_reference_falls_back_to_the_name(scene: Any) -> None:
    volume("CT 1")
    old = volume("old")
    node = drawn("CT_1-label", of=old)
    scene.RemoveNode(old)
    assert pairs(scene) == {"CT 1": node}


def test_same_study(scene: Any) -> None:
    hierarchy = scene.GetSubjectHierarchyNode()
    nodes = {name: volume(name) for name in ("one", "two")}
    labels = {name: drawn(f"Segmentation_{number}") for number, name in enumerate(nodes)}
    for name, node in nodes.items():
        study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), f"study of {name}")
        hierarchy.CreateItem(study, node)
        hierarchy.CreateItem(study, labels[name])
    assert pairs(scene) == labels


def test_top_level_of_the_scene_is_no_study(scene: Any) -> None:
    hierarchy = scene.GetSubjectHierarchyNode()
    for node in (volume("one"), drawn("Segmentation")):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    assert pairs(scene) == {"one": None}


def test_two_scans_that_fit_equally_well_get_nothing(scene: Any) -> None:
    volume("T1")
    volume("T1")
    drawn("T1 segmentation")
    assert [case.segmentation for case in find_cases(scene)] == [None, None]


def test_names(scene: Any) -> None:
    volume("Patient_7 CT")
    volume("Patient_77 CT")
    node = drawn("patient 7 ct Segmentation")
    assert pairs(scene) == {"Patient_7 CT": node, "Patient_77 CT": None}


def test_results_are_no_labels_until_accepted(scene: Any) -> None:
    scan = volume("one")
    result = drawn("one segmentation (GLMAE)", "a", "b", "c", of=scan)
    result.SetAttribute(RESULT_ATTRIBUTE, "1")
    (case,) = find_cases(scene)
    assert (case.segmentation, case.results) == (None, (result,))
    accept_result(result)
    (case,) = find_cases(scene)
    assert (case.segmentation, case.results) == (result, ())


def test_of_several_segmentations_the_chosen_one_counts(scene: Any) -> None:
    scan = volume("one")
    by_hand, full = drawn("by hand", "anterior", of=scan), drawn("TotalSegmentator", "posterior", "anterior", of=scan)
    (case,) = find_cases(scene)
    assert (case.segmentation, case.further) == (by_hand, (full,))  # not the one with more segments
    (case,) = find_cases(scene, [full.GetID()])
    assert (case.segmentation, case.further) == (full, (by_hand,))


def test_of_several_segmentations_the_one_like_those_of_the_other_scans_counts(scene: Any) -> None:
    scan, other = volume("one"), volume("two")
    drawn("two segmentation", "posterior", of=other)
    first, alike = drawn("first", "anterior", of=scan), drawn("alike", "posterior", of=scan)
    assert find_cases(scene)[0].segmentation is alike
    assert find_cases(scene)[0].further == (first,)


@pytest.mark.parametrize(
    ("labeled", "other", "alike"),
    [
        ("Smith T1w", "Jones T1", True),
        ("Smith T1w", "Jones T2w", False),
        ("Smith T1w", "Jones ADC", False),
        ("Smith", "Jones MIP", False),
        ("Smith T1w", "Jones", True),
        ("sub-01_T1w", "sub-02_T1w", True),
        ("sub-01_T1w", "sub-01_FLAIR", False),
        ("liver 7", "liver 8", True),
    ],
)
def test_the_kind_of_a_scan_by_its_name(scene: Any, labeled: str, other: str, alike: bool) -> None:
    assert is_alike(scan_kind(volume(other)), {scan_kind(volume(labeled))}) is alike
    assert is_alike(scan_kind(volume(other)), set())


def test_the_kind_of_a_scan_by_its_values_and_its_dicom_data(scene: Any) -> None:
    mr = volume("one")
    ct = add_volume(VOXELS.astype("int16") - 1000, GRIDS["RAS"], "two")
    assert scan_kind(ct).modality == "CT"
    assert scan_kind(mr).modality == ""
    hierarchy = scene.GetSubjectHierarchyNode()
    for node, modality in ((mr, "MR"), (ct, "CT")):
        item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        hierarchy.SetItemAttribute(item, "DICOM.Modality", modality)
    assert (scan_kind(mr).modality, scan_kind(ct).modality) == ("MR", "CT")
    assert not is_alike(scan_kind(ct), {scan_kind(mr)})


def test_what_is_no_scan(scene: Any) -> None:
    kept = volume("kept")
    volume("hidden").SetHideFromEditors(True)
    add_volume(VOXELS[:1], GRIDS["RAS"], "one slice")
    scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "no voxels")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "label map").SetAndObserveImageData(kept.GetImageData())
    scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colors").SetAndObserveImageData(kept.GetImageData())
    assert scan_volumes(scene) == [kept]


def test_classes_follow_names_and_terminology_not_order(scene: Any) -> None:
    one = drawn("one", "anterior", "posterior")
    two = drawn("two", "posterior", "extra", "anterior")
    table = class_table(two)
    assert [c.value for c in table.classes] == [1, 2, 3]
    assert [c.name for c in table.classes] == ["Hippocampus, posterior ü", "extra", "Anterior hippocampus"]
    found = {c.name: segment_id_of(one, c) for c in table.classes}
    assert found == {"Anterior hippocampus": "anterior", "Hippocampus, posterior ü": "posterior", "extra": None}


def test_a_renamed_segment_is_found_by_its_terminology(scene: Any) -> None:
    node = drawn("one", "posterior", "anterior")
    wanted = SegmentClass(1, "HC head", None, HIPPOCAMPUS.format(code="1111", name="Anterior"))
    assert segment_id_of(node, wanted) == "anterior"


def test_two_segments_with_the_generic_terminology_are_not_the_same(scene: Any) -> None:
    """Slicer gives every new segment the entry "Tissue"; it says nothing."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().AddEmptySegment("liver", "liver")
    node.GetSegmentation().AddEmptySegment("spleen", "spleen")
    table = class_table(node)
    assert all("Tissue" in (c.terminology or "") for c in table.classes)
    assert [segment_id_of(node, c) for c in table.classes] == ["liver", "spleen"]
    assert segment_id_of(node, SegmentClass(1, "kidney", None, table.classes[0].terminology)) is None


def test_class_colors(scene: Any) -> None:
    (only,) = class_table(drawn("one", "posterior")).classes
    np.testing.assert_allclose(only.color, (0.1, 0.3, 0.85))
