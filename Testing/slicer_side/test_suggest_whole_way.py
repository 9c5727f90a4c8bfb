"""The loop with the real engine: one label, proposals of the others, one accepted, the others renewed, a correction."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
from module_window import ModuleWindow
from panel_scene import draw_in, load_scan
from views_picture import picture_beside_views

from GLMAESegmentationLib.scene.segment_voxels import content_of
from GLMAESegmentationLib.scene.volume_table import volume_rows

NAMES = ("hippocampus_039", "hippocampus_207", "hippocampus_057", "hippocampus_097")


def dice(scan: Any, truth: Any) -> float:
    """Mean over the structures of a scan's proposal and of what was drawn in it."""
    rows = volume_rows([scan], slicer.mrmlScene)
    assert [row.structure for row in rows] == ["Anterior", "Posterior"]
    volume, result = slicer.mrmlScene.GetNodeByID(scan.volume_id), slicer.mrmlScene.GetNodeByID(scan.result_id)
    scores = []
    for name in ("Anterior", "Posterior"):
        one, other = (voxels(node, name, volume) for node in (result, truth))
        scores.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return float(np.mean(scores))


def voxels(node: Any, name: str, volume: Any) -> Any:
    identifier = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume) > 0


def test_one_label_gives_proposals_that_a_second_one_and_a_correction_renew(window: ModuleWindow) -> None:
    truths = {}
    for number, name in enumerate(NAMES):
        volume = load_scan(name)
        node = slicer.util.getFirstNodeByClassByName("vtkMRMLSegmentationNode", f"{name} segmentation")
        if number:  # kept to compare with, as nobody's label
            node.SetAttribute("GLMAESegmentation.Preview", "1")
            truths[volume.GetID()] = node
    window.settle()
    window.ui.deviceSelector.currentIndex = 1
    window.click("suggestButton")
    panel = window.panel

    def at_rest() -> bool:
        assert panel.state.failure is None, panel.log
        assert not panel.state.suggest.problem, panel.state.suggest.problem
        return panel.state.suggest.on and not panel.state.suggest.stage

    window.wait(at_rest, 300, ticked=False)
    assert (panel.state.suggest.labels, panel.state.suggest.proposed) == (1, 3)
    first = {scan.volume_id: dice(scan, truths[scan.volume_id]) for scan in panel.state.scans[1:]}
    assert min(first.values()) > 0.4, first

    if "GLMAE_SCREENSHOTS" in os.environ:  # draws the picture of the documentation
        window.click("nextButton")
        scan = panel.state.selected_scan
        nodes = (slicer.mrmlScene.GetNodeByID(identifier) for identifier in (scan.volume_id, scan.result_id))
        picture_beside_views(window, Path(os.environ["GLMAE_SCREENSHOTS"]) / "suggest.png", *nodes)
        window.click("previousButton")

    window.click("nextButton")
    accepted = panel.state.selected_scan
    before = {scan.volume_id: scan.result_id for scan in panel.state.scans if scan.result_id}
    window.click("acceptButton")
    window.wait(lambda: panel.state.suggest.labels == 2 and at_rest(), 300, ticked=False)
    assert panel.state.suggest.proposed == 2
    others = [scan for scan in panel.state.scans if scan.proposal]
    assert all(scan.result_id != before[scan.volume_id] for scan in others)
    assert slicer.mrmlScene.GetNodeByID(accepted.result_id) is not None

    window.click("correctButton")
    drawn = slicer.mrmlScene.GetNodeByID(panel.state.drawing)
    draw_in(drawn)
    content = content_of(drawn)
    window.click("endDrawingButton")
    window.wait(lambda: panel.state.suggest.labels == 3 and at_rest(), 300, ticked=False)
    assert content_of(drawn) == content
    assert panel.state.suggest.proposed == 1
    window.click("suggestButton")
    assert not list((window.data / "jobs").iterdir())
