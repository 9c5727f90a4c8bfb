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
from GLMAESegmentationLib.messages import failure_texts, say
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
    (finding,) = panel.state.findings
    assert finding.sentence.startswith("\"hippocampus_039\": 'Anterior' has 9 voxels far from all the rest")
    assert "Computing on the CPU." in panel.state.train_details
    assert say("memory free", need=1.0, free=9.0) in panel.state.train_details
    assert not list(panel.jobs.iterdir())


def test_single_slices_are_asked_about_and_the_answer_is_kept(panel: Panel, stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("single slices", encoding="utf-8")
    look(panel)
    (finding,) = panel.state.findings
    assert finding.sentence.endswith(say("unless button"))
    assert "classes.json" not in finding.sentence
    assert action.STATE_PART not in panel.state.enabled, "no scan is selected"
    panel.selected = finding.volume_id
    assert panel.refresh().part == say("part counts", scan="hippocampus_039")
    panel.do(action.STATE_PART)
    assert panel.state.part == say("all counts", scan="hippocampus_039")
    assert [scan.state for scan in panel.state.scans] == ["labeled", "partly labeled"]
    assert panel.state.next_step == say("part counts now", scan="hippocampus_039")
    look(panel)
    (finding,) = panel.state.findings
    assert "only the 9 slices along K that hold labels" in finding.sentence

    file = tmp_path / "scene.mrml"
    assert slicer.mrmlScene.Commit(str(file))
    assert "GLMAESegmentation.PartlyLabelled" in file.read_text(encoding="utf-8")

    panel.do(action.STATE_PART)
    assert [scan.state for scan in panel.state.scans] == ["labeled", "labeled"]
    look(panel)
    assert panel.state.part == say("part counts", scan="hippocampus_039")


def test_good_labels_are_said_to_be_good_until_they_change(panel: Panel) -> None:
    look(panel)
    assert say("labels good") in panel.state.classes_sentence
    node = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    node.GetSegmentation().GetNthSegment(0).SetName("Front")
    panel.refresh()
    assert say("labels good") not in panel.state.classes_sentence
    look(panel)
    assert say("labels good") in panel.state.classes_sentence


def test_what_training_lacks_is_said_beforehand(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("little memory", encoding="utf-8")
    look(panel)
    assert "9.0 GB of memory and 1.0 GB are free" in panel.state.train_sentence
    assert failure_texts("memory")[2] in panel.state.train_sentence
    assert "--" not in panel.state.train_sentence
    assert say("labels good") not in panel.state.classes_sentence


def test_training_does_not_wait_for_a_check(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    for _ in range(8):
        panel.tick()
    assert panel.state.checking_labels
    assert say("checking labels") in panel.state.classes_sentence
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
    assert say("labels good") not in panel.state.classes_sentence
    panel.do(action.CHECK_LABELS)
    assert panel.state.checking_labels
    look(panel)
    assert say("labels good") in panel.state.classes_sentence


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
