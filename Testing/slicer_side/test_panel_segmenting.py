"""Segmenting many scans: each with its own fate; results are new nodes; nothing of the user's is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_scene import follow, give_result, load_scan, new_panel, write_model

from GLMAESegmentationLib.messages import failure_texts, say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel
from GLMAESegmentationLib.scene.scan_choice import review_order
from GLMAESegmentationLib.scene.segmentation_import import is_result

NAMES = ("hippocampus_057", "hippocampus_097", "hippocampus_230")


@pytest.fixture
def panel(scene: Any, tmp_path: Path, stand_in: Path) -> Iterator[Panel]:
    """Three scans and a model to segment them with."""
    give_result(stand_in, remove=True)
    for name in NAMES:
        load_scan(name, labeled=False)
    opened = new_panel(scene, tmp_path)
    opened.library.add(write_model(tmp_path / "trained"), "Leber")
    opened.choices.model = "Leber"
    opened.refresh()
    yield opened
    opened.leave()


def queue(panel: Panel) -> list[str]:
    return [scan.state for scan in panel.state.queue]


def results() -> list[Any]:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if is_result(node)]


def test_results_are_new_nodes_and_can_be_undone(panel: Panel) -> None:
    panel.do(action.START_SEGMENTING)
    follow(panel)
    assert queue(panel) == ["done"] * 3
    assert panel.state.step == "note"
    assert [node.GetName() for node in results()] == [f"{name} segmentation (GLMAE)" for name in NAMES]
    assert not list(panel.jobs.iterdir())
    panel.do(action.ACCEPT, panel.state.scans[0].volume_id)
    panel.do(action.UNDO)
    assert [scan.state for scan in panel.state.scans] == ["corrected", "unlabeled", "unlabeled"]
    assert action.UNDO not in panel.state.enabled


def test_one_failure_does_not_stop_the_others_and_is_tried_again(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("fail case-02", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel)
    assert queue(panel) == ["done", "failed", "done"]
    assert (
        panel.state.queue[1].note == f'"{NAMES[1]}" has the same value, 7, everywhere. {failure_texts("ScanError")[2]}'
    )
    assert [scan.state for scan in panel.state.scans] == ["segmented", "failed", "segmented"]
    assert panel.state.failure is None
    stand_in.write_text("run", encoding="utf-8")
    panel.do(action.RETRY)
    follow(panel)
    assert queue(panel) == ["done"]
    assert [scan.state for scan in panel.state.scans] == ["segmented"] * 3


def test_cancel_keeps_what_is_done(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel, lambda: "done" in queue(panel))
    panel.do(action.CANCEL)
    follow(panel)
    assert queue(panel)[0] == "done"
    assert queue(panel)[-1] == "canceled"
    assert len(results()) == queue(panel).count("done")
    assert panel.state.interrupted == ()
    assert not list(panel.jobs.iterdir())


def test_one_scan_is_canceled(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel, lambda: "running" in queue(panel))
    panel.do(action.CANCEL_SCAN, panel.state.queue[2].volume_id)
    assert action.CANCEL_SCAN not in panel.state.enabled  # it waits no more
    follow(panel)
    assert queue(panel) == ["done", "done", "canceled"]
    assert len(results()) == 2


def test_a_volume_deleted_meanwhile(panel: Panel, stand_in: Path, scene: Any) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel, lambda: "running" in queue(panel))
    scene.RemoveNode(scene.GetNodeByID(panel.state.queue[2].volume_id))
    follow(panel)
    assert queue(panel) == ["done", "done", "failed"]
    assert panel.state.queue[2].note == say("gone", scan=NAMES[2])


def test_the_scene_closed_meanwhile(panel: Panel, stand_in: Path, scene: Any) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel, lambda: "running" in queue(panel))
    scene.Clear(0)
    panel.scene_closed()
    follow(panel)
    assert results() == []
    assert not list(panel.jobs.iterdir())


def test_an_interrupted_queue_goes_on_in_the_scene_loaded_again(
    panel: Panel, stand_in: Path, scene: Any, tmp_path: Path
) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel, lambda: queue(panel).count("done") == 1)
    panel.leave()
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        scene.RemoveNode(node)
    for name in NAMES:
        load_scan(name, labeled=False).SetName(name)  # under other IDs
    again = new_panel(scene, tmp_path)
    assert again.state.interrupted == ("Segmenting with Leber",)
    before = len(results())
    again.do(action.CONTINUE)
    follow(again)
    assert queue(again) == ["done"] * 3
    assert len(results()) == before + 2
    assert again.state.interrupted == ()


def test_a_new_model_makes_new_results_beside_the_old_ones(panel: Panel, tmp_path: Path) -> None:
    panel.do(action.START_SEGMENTING)
    follow(panel)
    panel.library.add(write_model(tmp_path / "second"), "Milz")
    panel.choices.model = "Milz"
    panel.do(action.START_SEGMENTING)
    follow(panel)
    assert len(results()) == 6
    assert not any(node.GetDisplayVisibility() for node in results())  # until their scans are selected
    assert {scan.result_model for scan in panel.state.scans} == {"Milz"}


def test_a_damaged_model_is_a_sentence(panel: Panel) -> None:
    (panel.library.path("Leber") / "weights.safetensors").write_bytes(b"x")
    panel.do(action.START_SEGMENTING)
    assert panel.state.failure is not None
    assert panel.state.failure.key == "ModelError"
    assert not panel.busy


def test_what_the_engine_doubts_is_shown_and_stays_with_the_result(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("flags", encoding="utf-8")
    panel.do(action.START_SEGMENTING)
    follow(panel)
    doubts = (
        "Anterior reaches the left border of the scan and may be cut off.",
        "The model is unsure about Anterior: its choice has a probability of 62% on average.",
    )
    assert [scan.doubts for scan in panel.state.scans] == [(), doubts, doubts]
    assert [scan.uncertainty for scan in panel.state.scans] == [0.1, 0.2, 0.3]
    assert [scan.name for scan in review_order(panel.state.scans)] == [NAMES[2], NAMES[1], NAMES[0]]
