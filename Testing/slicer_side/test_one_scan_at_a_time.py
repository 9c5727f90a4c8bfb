"""One scan at a time: selecting shows it with its own segmentation, results are reviewed by the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import slicer
import slicer.util
from module_window import MODULE, ModuleWindow
from panel_scene import give_result, load_scan, segment_with_stand_in, statuses
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication
from standins.pythonqt import unwrap

from GLMAESegmentationLib.messages import say

NAMES = ("hippocampus_057", "hippocampus_097", "hippocampus_230")
UI = ElementTree.parse(MODULE.parent / "Resources" / "UI" / "GLMAESegmentation.ui").getroot()


@pytest.fixture
def views(scene: Any) -> list[Any]:
    """What the slice views show."""
    return [scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(3)]


@pytest.fixture
def segmented(window: ModuleWindow, stand_in: Path, tmp_path: Path) -> Iterator[ModuleWindow]:
    """A window with a labeled scan, and three with a result; the last is the one that the model is least sure of."""
    stand_in.write_text("flags", encoding="utf-8")
    give_result(stand_in)
    segment_with_stand_in(window, tmp_path, NAMES)
    return window


def shown() -> list[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node.GetName() for node in nodes if node.GetDisplayNode().GetVisibility()]


def in_views(views: list[Any]) -> list[str]:
    return [slicer.mrmlScene.GetNodeByID(view.GetBackgroundVolumeID()).GetName() for view in views]


def test_selecting_shows_that_scan_and_nobody_elses_segmentation(views: list[Any], window: ModuleWindow) -> None:
    for name in NAMES:
        load_scan(name)
    window.settle()
    for row in (1, 0, 2):
        window.ui.scanTable.selectRow(row)
        assert in_views(views) == [NAMES[row]] * 3
        assert shown() == [f"{NAMES[row]} segmentation"]


def test_results_lie_over_nobody_elses_scan(views: list[Any], segmented: ModuleWindow) -> None:
    segmented.ui.scanTable.selectRow(2)
    assert in_views(views) == [NAMES[1]] * 3
    assert shown() == [f"{NAMES[1]} segmentation (GLMAE)"]


def test_next_and_previous_walk_through_the_results_the_least_sure_first(
    views: list[Any], segmented: ModuleWindow
) -> None:
    seen = []
    for button in ("nextButton", "nextButton", "nextButton", "nextButton", "previousButton"):
        segmented.click(button)
        seen.append(in_views(views)[0])
        assert shown() == [f"{seen[-1]} segmentation (GLMAE)"]
    assert seen == [NAMES[2], NAMES[1], NAMES[0], NAMES[2], NAMES[0]]
    assert segmented.ui.reviewLabel.text == say("result", scan=NAMES[0], number=3, total=3)
    segmented.click("previousButton")
    assert segmented.ui.reviewLabel.text.splitlines()[1:] == [
        "Anterior reaches the left border of the scan and may be cut off.",
        "The model is unsure about Anterior: its choice has a probability of 62% on average.",
    ]
    assert segmented.texts("scanTable", 1) == statuses("labeled", "segmented", "doubtful", "doubtful")


def test_a_right_result_becomes_a_label_and_the_next_is_shown(views: list[Any], segmented: ModuleWindow) -> None:
    segmented.click("nextButton")
    segmented.click("acceptButton")
    assert segmented.panel.state.scans[3].role == "train"
    assert in_views(views)[0] == NAMES[1]
    segmented.click("acceptButton")
    segmented.click("acceptButton")
    assert [scan.state for scan in segmented.panel.state.scans] == ["labeled", *["corrected"] * 3]
    assert not segmented.ui.nextButton.enabled


def test_every_step_of_the_review_has_a_shortcut_that_its_tool_tip_names() -> None:
    keys = {}
    for widget in UI.iter("widget"):
        properties = {p.get("name"): p for p in widget.findall("property")}
        if "shortcut" in properties:
            key = properties["shortcut"].findtext("string") or ""
            assert f"({key})" in (properties["toolTip"].findtext("string") or "")
            names = list(properties)
            assert names.index("shortcut") > names.index("text")  # a text takes the shortcut away
            keys[widget.get("name")] = key
    assert set(keys) == {"previousButton", "nextButton", "acceptButton", "correctButton", "surfacesButton"}
    assert len(set(keys.values())) == 5


def test_editing_opens_the_editor_in_the_panel_and_ends_with_another_scan(segmented: ModuleWindow) -> None:
    segmented.click("nextButton")
    result = segmented.panel.state.scans[3].result_id
    segmented.click("correctButton")
    assert segmented.ui.drawSection.visible
    assert segmented.editor.segmentation.GetID() == result
    assert segmented.editor.volume.GetName() == NAMES[2]
    assert segmented.editor.calls[-2:] == ["setupViewObservations", "installKeyboardShortcuts"]
    assert segmented.ui.drawHint.visible
    assert "Fill between slices" in segmented.ui.drawHint.text  # the name of Slicer's tool
    segmented.click("endDrawingButton")
    assert not segmented.ui.drawSection.visible
    assert segmented.editor.calls[-2:] == ["uninstallKeyboardShortcuts", "removeViewObservations"]
    segmented.click("correctButton")
    segmented.ui.scanTable.selectRow(1)
    assert not segmented.ui.drawSection.visible
    assert segmented.editor.segmentation is None


def test_the_drawing_tools_rest_while_another_module_is_open(window: ModuleWindow) -> None:
    load_scan(NAMES[0], labeled=False)
    window.settle()
    window.ui.scanTable.selectRow(0)
    window.click("labelButton")
    window.exit()
    assert window.editor.calls[-1] == "removeViewObservations"
    window.enter()
    assert window.editor.calls[-1] == "installKeyboardShortcuts"
    slicer.mrmlScene.Clear(0)
    assert not window.ui.drawSection.visible
    assert window.editor.segmentation is None


def test_labels_are_not_checked_while_a_tool_is_in_use(
    window: ModuleWindow, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("GLMAESegmentationLib.jobs.label_check.SMALL_SCAN", 20_000_000)
    for name in NAMES[:2]:
        load_scan(name)
    window.settle(2)
    window.ui.scanTable.selectRow(0)
    window.click("labelButton")
    window.panel.labels.leave()
    window.editor.effect = "Paint"
    window.settle()
    assert not window.panel.state.checking_labels
    window.editor.effect = None
    window.settle()
    assert window.panel.state.checking_labels


def test_surfaces_are_shown_and_hidden_on_a_click(window: ModuleWindow) -> None:
    load_scan(NAMES[0])
    window.settle()
    window.ui.scanTable.selectRow(0)
    node = slicer.util.getFirstNodeByClassByName("vtkMRMLSegmentationNode", f"{NAMES[0]} segmentation")
    for visible in (True, False):
        window.click("surfacesButton")
        assert node.GetSegmentation().ContainsRepresentation("Closed surface")
        assert bool(node.GetDisplayNode().GetVisibility3D()) is visible


def test_several_rows_are_changed_at_once(window: ModuleWindow) -> None:
    for name in NAMES:
        load_scan(name, labeled=False)
    window.settle()
    table = window.ui.scanTable
    table.selectRow(0)
    model = window.qt.QItemSelectionModel
    table.selectionModel().select(table.model().index(1, 0), model.Select | model.Rows)
    table.cellWidget(1, 3).currentIndex = 2
    assert [scan.role for scan in window.panel.state.scans] == ["leave out", "leave out", "segment"]
    table.cellWidget(2, 3).currentIndex = 0  # not one of the selected rows
    assert [scan.role for scan in window.panel.state.scans] == ["leave out", "leave out", "train"]


def test_a_row_that_is_taken_out_of_several_leaves_the_others_selected(window: ModuleWindow) -> None:
    volumes = [load_scan(name, labeled=False) for name in NAMES]
    window.settle()
    table, model = window.ui.scanTable, window.qt.QItemSelectionModel
    table.selectAll()
    table.setCurrentCell(1, 0, model.Deselect | model.Rows)  # Ctrl and a click
    window.settle()
    assert [index.row() for index in table.selectionModel().selectedRows()] == [0, 2]
    assert window.panel.selected == volumes[0].GetID()
    table.clearSelection()
    assert window.panel.selected == ""
    assert not window.ui.labelButton.enabled


def test_a_click_on_the_selected_scan_shows_it_again(views: list[Any], window: ModuleWindow) -> None:
    volumes = [load_scan(name, labeled=False) for name in NAMES[:2]]
    window.settle()
    window.ui.scanTable.selectRow(0)
    for view in views:  # in another module
        view.SetBackgroundVolumeID(volumes[1].GetID())
    window.ui.scanTable._qobject.cellClicked.emit(0, 0)
    assert in_views(views) == [NAMES[0]] * 3


def test_the_mouse_wheel_over_the_table_changes_no_choice(window: ModuleWindow) -> None:
    load_scan(NAMES[0], labeled=False)
    window.settle()
    point, none = QPointF(5, 5), QPoint()
    turned = (Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False)
    wheel = QWheelEvent(point, point, none, QPoint(0, 120), *turned)
    QApplication.sendEvent(unwrap(window.ui.scanTable.cellWidget(0, 3)), wheel)
    assert window.panel.state.scans[0].role == "segment"


def test_which_segmentation_counts_is_chosen_in_the_row(window: ModuleWindow) -> None:
    volume = load_scan(NAMES[0])
    first = slicer.util.getFirstNodeByClassByName("vtkMRMLSegmentationNode", f"{NAMES[0]} segmentation")
    window.settle()
    table = window.ui.scanTable
    assert table.isColumnHidden(2)
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "TotalSegmentator")
    second.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for number in range(3):
        second.GetSegmentation().AddEmptySegment(f"organ {number}")
    window.settle()
    assert not table.isColumnHidden(2)
    assert say("several segmentations", scans=NAMES[0]) in window.ui.scansLabel.text
    assert window.panel.state.scans[0].segmentation_id == first.GetID()
    selector = table.cellWidget(0, 2)
    selector.currentIndex = 1
    selector._qobject.activated.emit(1)
    assert window.panel.state.scans[0].segmentation_id == second.GetID()
    window.settle()
    assert table.cellWidget(0, 2).currentText == "TotalSegmentator"


def test_images_of_another_kind_are_ignored_until_the_user_says_otherwise(window: ModuleWindow) -> None:
    load_scan(NAMES[0]).SetName("T1w one")
    load_scan(NAMES[1], labeled=False).SetName("T1w two")
    load_scan(NAMES[2], labeled=False).SetName("ADC two")
    window.settle()
    assert [scan.role for scan in window.panel.state.scans] == ["train", "segment", "leave out"]
    assert say("another kind", scans="ADC two") in window.ui.scansLabel.text
    window.ui.scanTable.cellWidget(2, 3).currentIndex = 1
    window.settle()
    assert [scan.role for scan in window.panel.state.scans] == ["train", "segment", "segment"]
    assert "ADC two" not in window.ui.scansLabel.text


def test_volumes_go_into_a_table_and_to_the_clipboard(segmented: ModuleWindow) -> None:
    segmented.click("volumes")
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert table.GetNumberOfRows() == 8
    segmented.click("copy volumes")
    copied = segmented.qt.QApplication.clipboard().text()
    assert copied.splitlines()[0] == "Scan,Structure,Label (mL),Result (mL),Dice"
    assert copied.count("\n") == 9


def test_dicom_leads_to_slicers_own_browser(window: ModuleWindow) -> None:
    window.click("dicomButton")
    assert window.opened == ["DICOM"]
