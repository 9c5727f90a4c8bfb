"""The whole way of a user: the real module file, .ui, scene and scans, real child processes, every step a click."""

from __future__ import annotations

import os
from pathlib import Path

import slicer
from coarse_scans import write_coarse_scans
from module_window import ModuleWindow
from panel_scene import load_scan, statuses
from scene_content import SAMPLES

from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.setup.shipped_backbone import shipped_backbone

SCANS = [f"hippocampus_{number}" for number in ("003", "039", "057", "097", "207", "230")]


def states(window: ModuleWindow) -> list[str]:
    return [scan.state for scan in window.panel.state.scans]


def test_label_train_segment_accept_train_again_save_and_load(window: ModuleWindow, tmp_path: Path) -> None:
    # GLMAE_SCREENSHOTS=Resources/Screenshots makes the pictures of the documentation.
    pictures = Path(os.environ.get("GLMAE_SCREENSHOTS", tmp_path))
    # So many, of scans as they are, that the results look like something.
    steps, folder = 60, SAMPLES
    if "GLMAE_SCREENSHOTS" not in os.environ:
        steps, folder = 6, tmp_path / "coarse"
        write_coarse_scans(folder, SCANS)
    ui = window.ui
    for number, name in enumerate(SCANS):
        load_scan(name, number < 2, folder)
    window.settle()
    assert window.texts("scanTable", 1) == statuses(*["labeled"] * 2, *["unlabeled"] * 4)
    assert window.texts("classTable", 0) == ["Anterior", "Posterior"]
    ui.deviceSelector.currentIndex = 1
    window.click("checkLabelsButton")
    window.wait(lambda: not window.panel.state.checking_labels)
    assert say("labels good") in ui.classesLabel.text
    assert "\nComputing on the CPU" in ui.trainLabel.toolTip
    window.picture(pictures / "labeled.png")

    ui.stepsSelector.value = steps
    stalls = {}
    window.click("trainButton")
    window.run(until=lambda: len(window.panel.state.loss) > steps // 4)
    assert ui.stopButton.visible
    assert say("stage finetune") + " (" in ui.trainProgressLabel.text
    window.click("previewButton")
    window.run(until=lambda: action.PREVIEW in window.panel.state.enabled)
    assert "hippocampus_057" in ui.trainProgressLabel.text
    assert window.panel.state.preview_of
    window.picture(pictures / "training.png")
    stalls["train"] = window.run()
    assert slicer.mrmlScene.GetFirstNodeByName("hippocampus_057 preview") is None
    assert window.panel.state.failure is None, window.panel.log
    model = ui.modelSelector.currentText
    assert model == "Anterior, Posterior"
    assert not list((window.data / "jobs").iterdir())
    backbone = shipped_backbone()
    origin = say("origin", n=2, name=backbone) if backbone else say("origin scratch", n=2)
    assert origin in ui.scoresLabel.toolTip

    window.click("segmentButton")
    stalls["segment"] = window.run()
    assert window.panel.state.failure is None, window.panel.log
    assert states(window) == ["labeled"] * 2 + ["segmented"] * 4
    assert [scan.state for scan in window.panel.state.queue] == ["done"] * 4

    accepted = window.panel.state.scans[2]
    ui.scanTable.selectRow(2)
    window.click("acceptButton")
    assert states(window)[2] == "corrected"
    assert [scan.role for scan in window.panel.state.scans] == ["train"] * 3 + ["segment"] * 3
    window.click("undoButton")
    assert states(window) == ["labeled"] * 2 + ["corrected"] + ["unlabeled"] * 3
    assert slicer.mrmlScene.GetNodeByID(accepted.result_id) is not None

    ui.stepsSelector.value = 3
    window.panel.choices.set_role(window.panel.state.scans[5].volume_id, "leave out")
    window.click("trainButton")
    window.run()
    assert window.panel.state.failure is None, window.panel.log
    assert window.panel.library.names == ("Anterior, Posterior", "Anterior, Posterior 2")
    card = window.panel.library.card("Anterior, Posterior 2")
    assert len(card.content["training_cases"]) == 3

    saved(window, tmp_path / "scene")
    assert window.panel.choices.model == "Anterior, Posterior 2"
    assert [scan.role for scan in window.panel.state.scans] == ["train"] * 3 + ["segment"] * 2 + ["leave out"]
    assert ui.modelSelector.currentText == "Anterior, Posterior 2"
    assert ui.stepsSelector.value == 3
    # Writing or reading one scan is a single call of Slicer; on a busy machine it may take longer than on a quiet one.
    assert max(stalls.values()) < 2.0, stalls


def saved(window: ModuleWindow, folder: Path) -> None:
    """Save the scene, close it, load it."""
    folder.mkdir()
    scene = slicer.mrmlScene
    for kind, ending in (("vtkMRMLScalarVolumeNode", ".nrrd"), ("vtkMRMLSegmentationNode", ".seg.nrrd")):
        for node in slicer.util.getNodesByClass(kind):
            node.AddDefaultStorageNode()
            node.GetStorageNode().SetFileName(str(folder / f"{node.GetID()}{ending}"))
            assert node.GetStorageNode().WriteData(node)
    scene.SetURL(str(folder / "scene.mrml"))
    scene.SetRootDirectory(str(folder))
    assert scene.Commit()
    scene.Clear(0)
    window.settle()
    assert not window.panel.state.scans
    assert window.ui.scanTable.rowCount == 0
    assert scene.Import()
    window.settle()
