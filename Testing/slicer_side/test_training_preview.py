"""A preview of a training under way: a segmentation that shows it, and is nobody's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from module_window import ModuleWindow
from panel_scene import follow, load_scan, new_panel

from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel
from GLMAESegmentationLib.scene.segmentation_export import export_segmentation

SCANS = ("hippocampus_003", "hippocampus_039", "hippocampus_057")


def load(stand_in: Path) -> None:
    """Two labeled scans, one to segment, and what the stand-in answers."""
    for number, name in enumerate(SCANS):
        load_scan(name, labeled=number < 2)
    drawn = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    volume = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0]
    export_segmentation(drawn, volume, stand_in.parent / "result.seg.nrrd")


@pytest.fixture
def panel(scene: Any, tmp_path: Path, stand_in: Path) -> Iterator[Panel]:
    """A training under way."""
    load(stand_in)
    opened = new_panel(scene, tmp_path)
    opened.do(action.START_TRAINING)
    follow(opened, lambda: len(opened.state.loss) > 1)
    yield opened
    opened.leave()


def previews() -> list[Any]:
    return [n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if n.GetName().endswith("preview")]


def ask(panel: Panel) -> None:
    panel.do(action.PREVIEW)
    assert action.PREVIEW not in panel.state.enabled
    follow(panel, lambda: action.PREVIEW in panel.state.enabled, 30)


def test_it_is_shown_and_is_no_label_and_no_result(panel: Panel) -> None:
    before = panel.state.scans
    ask(panel)
    (node,) = previews()
    assert node.GetName() == "hippocampus_057 preview"  # not one that is trained on
    assert node.GetID() == panel.state.preview_of
    (step,) = re.findall(r"step (\d+)", panel.state.preview)
    assert panel.state.preview == say("preview", scan="hippocampus_057", step=step)
    assert panel.state.scans == before
    assert node.GetHideFromEditors()
    assert not node.GetSaveWithScene()
    assert node.GetDisplayVisibility()


def test_another_takes_its_place_and_pausing_ends_it(panel: Panel) -> None:
    ask(panel)
    panel.selected = panel.state.scans[0].volume_id
    ask(panel)
    assert [node.GetName() for node in previews()] == ["hippocampus_003 preview"]
    panel.do(action.PAUSE)
    follow(panel)
    assert previews() == []
    assert panel.state.preview == ""


def test_what_the_engine_cannot_do_is_a_sentence(panel: Panel, stand_in: Path) -> None:
    (stand_in.parent / "result.seg.nrrd").unlink()
    ask(panel)
    assert panel.state.preview == 'No preview of "hippocampus_057": not enough memory.'
    assert previews() == []
    assert panel.busy


def test_a_scan_that_is_deleted_and_a_scene_that_is_closed(panel: Panel, scene: Any) -> None:
    panel.do(action.PREVIEW)
    scene.RemoveNode(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[2])
    follow(panel, lambda: action.PREVIEW in panel.state.enabled, 30)
    assert previews() == []
    ask(panel)
    scene.Clear(0)
    panel.scene_closed()
    assert panel.state.preview_of == ""
    assert panel.busy


def test_the_views_jump_to_it(window: ModuleWindow, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(stand_in)
    shown: list[Any] = []
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", lambda background, fit: shown.append(background))
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetLayoutName("Red")
    window.settle()
    window.click("trainButton")
    window.run(until=lambda: window.panel.state.loss)
    window.click("previewButton")
    assert say("preview asked", scan="hippocampus_057") in window.ui.trainProgressLabel.text
    window.run(until=lambda: window.panel.state.preview_of)
    assert shown[-1].GetName() == "hippocampus_057"
    (node,) = previews()
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    matrix = view.GetSliceToRAS()
    assert bounds[4] < matrix.GetElement(2, 3) < bounds[5]
