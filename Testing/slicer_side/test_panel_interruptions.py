"""The window while a job runs: the module reloaded, Slicer quit, the scene closed, failures shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from module_window import ModuleWindow
from panel_scene import load_scan, statuses

from GLMAESegmentationLib.messages import say


@pytest.fixture
def training(window: ModuleWindow, stand_in: Path) -> ModuleWindow:
    """A window in which a training is under way."""
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    window.settle()
    window.click("trainButton")
    window.run(until=lambda: len(window.panel.state.loss) > 2)
    return window


def test_what_is_shown_while_training(training: ModuleWindow) -> None:
    ui = training.ui
    assert ui.trainProgress.visible
    assert ui.trainProgressLabel.text
    assert not ui.nextStepLabel.visible  # that says it
    assert ui.curveLabel.visible
    assert ui.stopButton.enabled
    assert ui.previewButton.enabled
    assert not ui.checkLabelsButton.visible
    assert not ui.trainButton.visible
    assert not ui.segmentButton.enabled
    training.click("pauseButton")
    training.run(30)
    assert ui.interruptedFrame.visible
    assert ui.interruptedLabel.text == say("unfinished", title="Anterior, Posterior")
    assert ui.continueButton.enabled
    assert ui.keepButton.enabled
    training.click("discardButton")
    assert not ui.interruptedFrame.visible
    assert ui.trainButton.visible


def test_reload_while_training(training: ModuleWindow) -> None:
    training.close()
    again = ModuleWindow(training.settings)
    assert again.ui.interruptedFrame.visible
    again.click("continueButton")
    again.run(until=lambda: len(again.panel.state.loss) > 2)
    assert again.panel.state.running == "train"
    again.close()  # Slicer quits
    last = ModuleWindow(training.settings)
    assert last.ui.interruptedFrame.visible
    last.click("discardButton")
    assert not list((training.data / "jobs").iterdir())
    last.close()


def test_scene_closed_while_training(training: ModuleWindow) -> None:
    slicer.mrmlScene.Clear(0)
    training.settle(2)
    assert training.ui.scanTable.rowCount == 0
    assert training.panel.state.running == "train"
    assert training.ui.stopButton.enabled


def test_a_volume_deleted_and_one_renamed_while_training(training: ModuleWindow) -> None:
    first, second = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    first.SetName("renamed")
    slicer.mrmlScene.RemoveNode(second)
    training.settle(2)
    assert training.texts("scanTable", 0) == ["renamed"]
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        slicer.mrmlScene.RemoveNode(segmentation)
    training.settle(2)
    assert training.texts("scanTable", 1) == statuses("unlabeled")
    assert training.panel.state.running == "train"


def test_a_failure_is_shown_and_its_log_copied(window: ModuleWindow, stand_in: Path) -> None:
    stand_in.write_text("gpu", encoding="utf-8")
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    window.settle()
    window.click("trainButton")
    window.run(60)
    ui = window.ui
    assert ui.failureFrame.visible
    assert window.panel.state.failure.key == "gpu memory"
    assert ui.failureLabel.text == window.panel.state.failure.sentence
    assert ui.trainButton.enabled
    window.click("copyLogButton")
    copied = window.qt.QApplication.clipboard().text()
    assert "CUDA out of memory. Tried to allocate" in copied
    assert '"event": "started"' in copied
    stand_in.write_text("run", encoding="utf-8")
    window.click("trainButton")
    assert not ui.failureFrame.visible


def test_an_odd_label_is_listed_and_one_click_leads_to_it(window: ModuleWindow, stand_in: Path) -> None:
    stand_in.write_text("odd label", encoding="utf-8")
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    window.settle()
    assert not window.ui.findingsList.visible
    assert not window.ui.findingsLabel.visible
    window.click("trainButton")
    window.run(until=lambda: len(window.panel.state.loss) > 1)
    findings = window.ui.findingsList
    assert window.ui.findingsLabel.visible
    assert window.ui.scanTable.geometry.bottom() < window.ui.findingsLabel.geometry.top() < findings.geometry.top()
    (sentence,) = [findings.item(n).text() for n in range(findings.count)]
    assert sentence.startswith("\"hippocampus_039\": 'Anterior' has 9 voxels far from all the rest")
    findings.currentRow = 0
    second = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[1]
    assert window.panel.selected == second.GetID()
    assert window.ui.scanTable.currentRow() == 1
    window.ui.scanTable.selectRow(0)
    window.ui.findingsList._qobject.itemClicked.emit(window.ui.findingsList._qobject.item(0))  # the same line again
    assert window.panel.selected == second.GetID()
