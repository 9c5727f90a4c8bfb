"""One scan at a time in the views, and how large its structures are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
from panel_scene import load_scan, parameter_node
from scene_content import SAMPLES

from GLMAESegmentationLib.scene.choices import PanelChoices
from GLMAESegmentationLib.scene.display import center_of, show_alone, toggle_surfaces
from GLMAESegmentationLib.scene.scan_table import scan_table
from GLMAESegmentationLib.scene.scene_cases import PREVIEW_ATTRIBUTE, find_cases
from GLMAESegmentationLib.scene.segment_voxels import OnceAChange, voxel_counts
from GLMAESegmentationLib.scene.segmentation_import import RESULT_ATTRIBUTE
from GLMAESegmentationLib.scene.volume_table import COLUMNS, add_table, as_csv, volume_rows

NAMES = ("hippocampus_003", "hippocampus_039", "hippocampus_057")


def shown() -> list[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node.GetName() for node in nodes if node.GetDisplayNode() and node.GetDisplayNode().GetVisibility()]


def test_one_segmentation_is_shown_and_nobody_elses(scene: Any) -> None:
    for name in NAMES:
        load_scan(name)
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    nodes[2].SetAttribute(PREVIEW_ATTRIBUTE, "1")
    show_alone(nodes[1], scene)
    assert shown() == [nodes[1].GetName(), nodes[2].GetName()]  # a preview is not a scan's own
    show_alone(nodes[0], scene)
    assert shown() == [nodes[0].GetName(), nodes[2].GetName()]
    show_alone(None, scene)
    assert shown() == [nodes[2].GetName()]


def test_the_center_is_where_the_voxels_are(scene: Any) -> None:
    load_scan(NAMES[0])
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    label = sitk.ReadImage(str(SAMPLES / "labels" / f"{NAMES[0]}.nii.gz"))
    places = np.argwhere(sitk.GetArrayFromImage(label) > 0)[:, ::-1]
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    lps = label.TransformContinuousIndexToPhysicalPoint(middle.tolist())
    assert center_of(node) == pytest.approx((-lps[0], -lps[1], lps[2]), abs=1.0)
    assert center_of(scene.AddNewNodeByClass("vtkMRMLSegmentationNode")) is None


def test_surfaces_are_shown_and_hidden(scene: Any) -> None:
    load_scan(NAMES[0])
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert toggle_surfaces(node)
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    assert node.GetDisplayNode().GetVisibility3D()
    assert not toggle_surfaces(node)
    assert not node.GetDisplayNode().GetVisibility3D()
    assert toggle_surfaces(node)


def test_volumes_and_dice(scene: Any) -> None:
    volume = load_scan(NAMES[0])
    load_scan(NAMES[1], labeled=False)
    label = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    result = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "result")
    result.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    result.SetAttribute(RESULT_ATTRIBUTE, "1")
    result.GetSegmentation().AddEmptySegment("a", "anterior")  # matched by name, whatever its case
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(label, label.GetSegmentation().GetNthSegmentID(0), volume).copy()
    whole = int(mask.sum())
    mask[: mask.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result, "a", volume)
    scans = scan_table(find_cases(scene), PanelChoices(parameter_node()), OnceAChange(voxel_counts), {})
    rows = volume_rows(scans, scene)
    assert [(row.scan, row.structure) for row in rows] == [(NAMES[0], "Anterior"), (NAMES[0], "Posterior")]
    assert rows[0].label_ml == pytest.approx(whole / 1000)  # voxels of 1 mm
    assert rows[0].result_ml == pytest.approx(mask.sum() / 1000)
    assert rows[0].dice == pytest.approx(2 * mask.sum() / (mask.sum() + whole))
    assert (rows[1].result_ml, rows[1].dice) == (None, None)
    table = add_table(rows, scene, "GLMAE volumes")
    assert table.GetNumberOfRows() == 2
    assert [table.GetColumnName(number) for number in range(table.GetNumberOfColumns())] == list(COLUMNS)
    assert table.GetCellText(0, 1) == "Anterior"
    assert add_table(rows, scene, "GLMAE volumes") is not table
    assert as_csv(rows).splitlines()[0] == "Scan,Structure,Label (mL),Result (mL),Dice"
    assert as_csv(rows).count("\n") == 3
