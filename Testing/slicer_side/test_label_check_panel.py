"""Labels are checked before a training: by themselves when nobody is at work on them, or on a click."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_scene import load_scan, new_panel

from GLMAESegmentationLib.jobs import label_check
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel


@pytest.fixture
def panel(scene: Any, tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Panel]:
    monkeypatch.setattr(label_check, "SMALL_SCAN", 20_000_000)
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    opened = new_panel(scene, tmp_path)
    yield opened
    opened.leave()


def look(panel: Panel, seconds: float = 30) -> None:
    """As by the panel's timer, until the labels are checked."""
    for _ in range(6):
        panel.tick()
    end = time.monotonic() + seconds
    while panel.state.checking_labels:
        assert time.monotonic() < end
        panel.tick()
        time.sleep(0.02)


def test_odd_labels_are_known_before_train_is_pressed(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("odd label", encoding="utf-8")
    look(panel)
    assert [finding.sentence for finding in panel.state.findings] == ['"hippocampus_039": Anterior is in two parts.']
    assert "Possible label problems" in panel.state.scans_sentence
    assert "Computing on the CPU." in panel.state.train_details
    assert "9.0 GB are free" in panel.state.train_details
    assert not list(panel.jobs.iterdir())


def test_single_slices_are_asked_about_and_the_answer_is_kept(panel: Panel, stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("single slices", encoding="utf-8")
    look(panel)
    (finding,) = panel.state.findings
    assert finding.sentence.endswith("the rest counts as background, unless you press the button below.")
    assert "classes.json" not in finding.sentence
    assert action.STATE_PART not in panel.state.enabled, "no scan is selected"
    panel.selected = finding.volume_id
    assert panel.refresh().part == "Only the labeled part of hippocampus_039 counts"
    panel.do(action.STATE_PART)
    assert panel.state.part == "All of hippocampus_039 was labeled"
    assert [scan.state for scan in panel.state.scans] == ["labeled", "partly labeled"]
    assert panel.state.next_step == "Nothing is learned where hippocampus_039 is not labeled."
    look(panel)
    (finding,) = panel.state.findings
    assert "only the 9 slices along K that hold labels" in finding.sentence

    file = tmp_path / "scene.mrml"
    assert slicer.mrmlScene.Commit(str(file))
    assert "GLMAESegmentation.PartlyLabelled" in file.read_text(encoding="utf-8")

    panel.do(action.STATE_PART)
    assert [scan.state for scan in panel.state.scans] == ["labeled", "labeled"]
    look(panel)
    assert panel.state.part == "Only the labeled part of hippocampus_039 counts"


def test_good_labels_are_said_to_be_good_until_they_change(panel: Panel) -> None:
    look(panel)
    assert "no problems found" in panel.state.classes_sentence
    node = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    node.GetSegmentation().GetNthSegment(0).SetName("Front")
    panel.refresh()
    assert "no problems found" not in panel.state.classes_sentence
    look(panel)
    assert "no problems found" in panel.state.classes_sentence


def test_what_training_lacks_is_said_beforehand(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("little memory", encoding="utf-8")
    look(panel)
    assert "Training needs about 9 GB of memory and 1 GB are free on cpu." in panel.state.train_sentence
    assert "no problems" not in panel.state.classes_sentence


def test_training_does_not_wait_for_a_check(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    for _ in range(8):
        panel.tick()
    assert panel.state.checking_labels
    assert "Checking the labels" in panel.state.classes_sentence
    began = time.monotonic()
    panel.do(action.START_TRAINING)
    assert time.monotonic() - began < 5
    assert panel.busy
    assert not panel.state.checking_labels
    assert len(list(panel.jobs.iterdir())) == 1  # the training's


def test_large_scans_are_checked_on_a_click_only(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_check, "SMALL_SCAN", 1000)
    look(panel)
    assert not list(panel.jobs.parent.glob("jobs/*"))
    assert "checked" not in panel.state.classes_sentence
    panel.do(action.CHECK_LABELS)
    assert panel.state.checking_labels
    look(panel)
    assert "no problems found" in panel.state.classes_sentence


def test_a_scan_that_is_deleted_meanwhile(panel: Panel, scene: Any) -> None:
    panel.do(action.CHECK_LABELS)
    scene.RemoveNode(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[1])
    look(panel)
    assert not panel.state.checking_labels
    assert not list(panel.jobs.iterdir())
    assert panel.state.failure is None


def test_nothing_stays_when_slicer_quits(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    for _ in range(8):
        panel.tick()
    panel.leave()
    assert not list(panel.jobs.iterdir())
