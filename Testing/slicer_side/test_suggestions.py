"""Suggest: proposals that follow the labels, whatever happens to the scene, the labels and the process meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
import slicer.util
from module_window import ModuleWindow
from panel_scene import draw_in, give_result, load_scan, new_panel, statuses, write_model

from glmae.errors import StorageError
from GLMAESegmentationLib.jobs.folder import TRAIN, JobFolder, JobRecord
from GLMAESegmentationLib.messages import failure_texts, say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.panel import Panel
from GLMAESegmentationLib.scene.proposals import take_proposals_away
from GLMAESegmentationLib.scene.segment_voxels import content_of
from GLMAESegmentationLib.scene.segmentation_import import is_accepted

NAMES = ("hippocampus_003", "hippocampus_057", "hippocampus_097", "hippocampus_230")


@pytest.fixture
def panel(scene: Any, stand_in: Path, tmp_path: Path) -> Iterator[Panel]:
    """One labeled scan, three without a label."""
    give_result(stand_in)
    for name in NAMES[1:]:
        load_scan(name, labeled=False)
    opened = new_panel(scene, tmp_path)
    for _ in range(3):
        opened.tick()
    yield opened
    opened.leave()


def tick(panel: Panel, until: Callable[[], bool], watched: bool = True) -> None:
    """Tick until it is so."""
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end, (panel.state.suggest, panel.state.failure)
        panel.tick(watched)
        time.sleep(0.01)


def settled(panel: Panel) -> bool:
    return panel.state.suggest.on and not panel.state.suggest.stage


def suggest(panel: Panel) -> None:
    """Press Suggest and wait for all proposals."""
    panel.do(action.SUGGEST)
    tick(panel, lambda: settled(panel))


def requests(stand_in: Path, kind: str = "") -> list[dict[str, Any]]:
    lines = (stand_in.parent / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for line in lines if (entry := json.loads(line))["request"] == (kind or entry["request"])]


def proposal(number: int) -> Any:
    name = f"{NAMES[number]} proposal (GLMAE)"
    return slicer.mrmlScene.GetFirstNodeByName(name)


def label(number: int) -> Any:
    return slicer.mrmlScene.GetNodeByID(panel_scan_label(number))


def panel_scan_label(number: int) -> str:
    return str(slicer.mrmlScene.GetFirstNodeByName(f"{NAMES[number]} segmentation").GetID())


def test_one_label_is_enough_and_every_other_scan_gets_a_proposal(panel: Panel, stand_in: Path) -> None:
    assert action.SUGGEST in panel.state.enabled
    panel.selected = panel.state.scans[2].volume_id  # the one that is shown comes first
    suggest(panel)
    assert [scan.state for scan in panel.state.scans] == ["labeled", "segmented", "segmented", "segmented"]
    assert [scan.proposal for scan in panel.state.scans] == [False, True, True, True]
    assert (panel.state.suggest.labels, panel.state.suggest.proposed, panel.state.suggest.wanted) == (1, 3, 3)
    assert [request["case"] for request in requests(stand_in, "segment")] == ["case-02", "case-03", "case-04"]
    cases = {scan.volume_id: scan.name for scan in panel.state.scans}
    assert cases[panel.selected] == NAMES[2]
    assert panel.state.scans[2].result_id == proposal(2).GetID()
    assert not proposal(2).GetDisplayVisibility()
    assert not panel.busy
    assert action.START_TRAINING in panel.state.enabled  # which one label is enough for


def test_accepting_learns_from_both_and_renews_the_others_first_the_one_that_is_shown(
    panel: Panel, stand_in: Path
) -> None:
    suggest(panel)
    before = [proposal(number).GetID() for number in (1, 2, 3)]
    images = sorted(panel.jobs.glob("*/cases/images/*"))
    stamps = [image.stat().st_mtime_ns for image in images]
    panel.do(action.ACCEPT, panel.state.scans[2].volume_id)
    shown = panel.selected
    assert shown != panel.state.scans[2].volume_id
    tick(panel, lambda: settled(panel) and len(requests(stand_in, "fit")) == 2)
    assert [len(request["cases"]) for request in requests(stand_in, "fit")] == [1, 2]
    assert slicer.mrmlScene.GetNodeByID(before[1]) is not None  # the accepted one
    assert proposal(1).GetID() != before[0]
    assert proposal(3).GetID() != before[2]
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 4
    assert [image.stat().st_mtime_ns for image in images] == stamps  # written once
    first = requests(stand_in, "segment")[3]["case"]
    place = [scan.volume_id for scan in panel.state.scans].index(shown)
    assert first == {1: "case-02", 3: "case-04"}[place]


def test_a_correction_becomes_a_label_and_is_never_replaced(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    panel.do(action.CORRECT, panel.state.scans[1].volume_id)
    node = proposal(1)
    panel.tick()
    draw_in(node)
    before = content_of(node)
    panel.do(action.ACCEPT, panel.state.scans[3].volume_id)  # others are renewed meanwhile
    tick(panel, lambda: settled(panel) and len(requests(stand_in, "fit")) >= 2)
    assert content_of(node) == before
    panel.do(action.END_DRAWING)
    tick(panel, lambda: settled(panel) and len(requests(stand_in, "fit")[-1]["cases"]) == 3)
    assert content_of(slicer.mrmlScene.GetNodeByID(node.GetID())) == before
    assert panel.state.scans[1].state == "corrected"
    assert panel.state.scans[1].role == "train"


def test_a_correction_that_nobody_has_seen_yet_makes_no_room_for_another_proposal(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    node = proposal(1)
    draw_in(node)  # a moment before the next one arrives
    assert not take_proposals_away(slicer.util.getNode(NAMES[1]))
    assert slicer.mrmlScene.GetNodeByID(node.GetID()) is node
    assert is_accepted(node)
    assert take_proposals_away(slicer.util.getNode(NAMES[2]))
    assert proposal(2) is None


def test_what_is_open_for_drawing_stays_even_without_a_stroke(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    node = proposal(1)
    panel.do(action.CORRECT, panel.state.scans[1].volume_id)
    drawn = label(0)
    draw_in(drawn)
    tick(panel, lambda: len(requests(stand_in, "fit")) == 2 and settled(panel))
    assert slicer.mrmlScene.GetNodeByID(node.GetID()) is node
    assert panel.state.drawing == node.GetID()


def test_a_label_that_changes_while_it_is_learned_is_learned_again(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.SUGGEST)
    tick(panel, lambda: panel.state.suggest.stage == "fit" and (stand_in.parent / "requests.jsonl").exists())
    draw_in(label(0))
    panel.tick(watched=False)  # as long as a tool is in use nothing of it is written
    tick(panel, lambda: len(requests(stand_in, "segment")) >= 1)
    fits = [request["labels"] for request in requests(stand_in, "fit")]
    assert len(fits) == 2
    assert fits[0] != fits[1]


def test_labels_are_left_alone_while_nobody_watches(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    draw_in(label(0))
    for _ in range(5):
        panel.tick(watched=False)
        time.sleep(0.02)
    assert len(requests(stand_in, "fit")) == 1
    tick(panel, lambda: len(requests(stand_in, "fit")) == 2)


def test_a_label_is_learned_when_its_strokes_have_come_to_an_end(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    (written,) = panel.jobs.glob("*/cases/labels/case-01.seg.nrrd")
    before = written.stat().st_mtime_ns
    for _ in range(5):
        draw_in(label(0))
        panel.tick()
        time.sleep(0.02)
    assert written.stat().st_mtime_ns == before  # Slicer stands still while it writes one
    tick(panel, lambda: len(requests(stand_in, "fit")) == 2)


def test_a_scan_that_is_loaded_later_gets_a_proposal_without_learning_again(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    load_scan("hippocampus_207", labeled=False)
    tick(panel, lambda: len(requests(stand_in, "segment")) == 4 and settled(panel))
    assert panel.state.scans[4].proposal
    assert len(requests(stand_in, "fit")) == 1


def test_a_scan_that_has_changed_is_written_and_proposed_anew(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    volume = slicer.util.getNode(NAMES[1])
    volume.SetSpacing(*(2 * side for side in volume.GetSpacing()))
    tick(panel, lambda: len(requests(stand_in, "segment")) == 4 and settled(panel))
    assert requests(stand_in, "segment")[-1]["case"] == "case-05"
    assert len(requests(stand_in, "fit")) == 1


def test_a_deleted_proposal_comes_back_with_the_next_label_only(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    slicer.mrmlScene.RemoveNode(proposal(3))
    for _ in range(5):
        panel.tick()
    assert proposal(3) is None
    panel.do(action.ACCEPT, panel.state.scans[1].volume_id)
    tick(panel, lambda: settled(panel) and len(requests(stand_in, "fit")) == 2)
    assert proposal(3) is not None


def test_a_volume_is_deleted_under_way(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.SUGGEST)
    tick(panel, lambda: panel.state.suggest.stage == "segment")
    slicer.mrmlScene.RemoveNode(slicer.util.getNode(NAMES[1]))
    tick(panel, lambda: settled(panel))
    assert panel.state.failure is None
    assert [scan.proposal for scan in panel.state.scans] == [False, True, True]
    assert panel.state.suggest.wanted == 2


def test_the_scene_is_closed_under_way(panel: Panel, stand_in: Path, scene: Any) -> None:
    stand_in.write_text("slow", encoding="utf-8")
    panel.do(action.SUGGEST)
    tick(panel, lambda: panel.state.suggest.stage == "segment")
    scene.Clear(0)
    panel.scene_closed()
    assert not panel.state.suggest.on
    assert panel.state.failure is None
    assert not list(panel.jobs.iterdir())
    panel.tick()
    assert not panel.at_work


@pytest.mark.parametrize("moment", ["fit", "segment"])
def test_the_process_is_killed(panel: Panel, stand_in: Path, moment: str) -> None:
    if moment == "segment":
        suggest(panel)
        before = proposal(1).GetID()
    stand_in.write_text("die", encoding="utf-8")
    if moment == "fit":
        panel.do(action.SUGGEST)
    else:
        panel.do(action.ACCEPT, panel.state.scans[2].volume_id)
    tick(panel, lambda: panel.state.failure is not None)
    assert panel.state.failure is not None
    assert panel.state.failure.key == "killed"
    assert not panel.state.suggest.on
    assert action.SUGGEST in panel.state.enabled
    assert action.COPY_LOG in panel.state.enabled
    assert "Killed" in panel.log
    assert not list(panel.jobs.iterdir())
    if moment == "segment":
        assert slicer.mrmlScene.GetNodeByID(before) is not None
    stand_in.write_text("run", encoding="utf-8")
    suggest(panel)
    assert panel.state.failure is None
    assert panel.state.suggest.proposed == panel.state.suggest.wanted


def test_the_log_is_that_of_the_failure_that_is_shown(panel: Panel, stand_in: Path) -> None:
    for behavior, do, key in (("die", action.SUGGEST, "killed"), ("crash", action.START_TRAINING, "crashed")):
        stand_in.write_text(behavior, encoding="utf-8")
        panel.do(do)
        tick(panel, lambda: panel.state.failure is not None)
        assert panel.state.failure is not None
        assert panel.state.failure.key == key
        assert ("Killed" in panel.log) is (behavior == "die")


def test_a_gpu_that_another_program_fills(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("gpu full", encoding="utf-8")
    panel.do(action.SUGGEST)
    tick(panel, lambda: bool(panel.state.suggest.problem))
    assert settled(panel)
    assert panel.state.suggest_sentence.endswith(failure_texts("gpu memory")[2])
    stand_in.write_text("run", encoding="utf-8")
    panel.choices.device = "cpu"  # the remedy that it names
    tick(panel, lambda: panel.state.suggest.proposed == 3)
    assert not panel.state.suggest.problem


def test_a_scan_that_cannot_be_proposed_is_named_and_the_others_go_on(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("fail case-03", encoding="utf-8")
    suggest(panel)
    assert [scan.state for scan in panel.state.scans] == ["labeled", "segmented", "failed", "segmented"]
    assert "case-03" not in panel.state.scans[2].failure
    assert NAMES[2] in panel.state.scans[2].failure
    stand_in.write_text("run", encoding="utf-8")
    panel.do(action.ACCEPT, panel.state.scans[1].volume_id)
    tick(panel, lambda: settled(panel) and panel.state.scans[2].proposal)
    assert panel.state.scans[2].failure == ""


def test_doubts_of_a_proposal_are_shown_and_reviewed_first(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("flags", encoding="utf-8")
    suggest(panel)
    panel.do(action.NEXT)
    assert panel.state.review.splitlines()[1:] == ["The model is unsure about Anterior."]
    assert panel.state.scans[1].uncertainty == 0.2


def test_switched_off_its_proposals_stay_and_nothing_else_does(panel: Panel, stand_in: Path) -> None:
    suggest(panel)
    panel.do(action.SUGGEST)
    assert not panel.state.suggest.on
    assert proposal(1) is not None
    assert not list(panel.jobs.iterdir())


def test_a_request_for_maps_gives_way_to_a_label(panel: Panel, stand_in: Path) -> None:
    stand_in.write_text("never ahead", encoding="utf-8")
    panel.do(action.SUGGEST)
    tick(panel, lambda: panel.state.suggest.stage == "ahead")
    draw_in(label(0))
    tick(panel, lambda: len(requests(stand_in, "fit")) == 2)
    stand_in.write_text("run", encoding="utf-8")


def test_training_beside_it_gives_results_in_the_place_of_proposals(panel: Panel, stand_in: Path) -> None:
    write_model(stand_in.parent / "model")
    suggest(panel)
    panel.do(action.ACCEPT, panel.state.scans[1].volume_id)
    panel.do(action.CORRECT, panel.state.scans[2].volume_id)
    stand_in.write_text("finish", encoding="utf-8")
    edited = panel.state.drawing
    panel.do(action.START_TRAINING)
    assert panel.state.running == TRAIN
    assert panel.state.suggest.on
    stand_in.write_text("finish", encoding="utf-8")
    tick(panel, lambda: not panel.busy and panel.state.scans[3].result_model != "")
    assert panel.state.scans[3].result_model == panel.state.model
    assert not panel.state.scans[3].proposal
    assert proposal(3) is None
    assert slicer.mrmlScene.GetNodeByID(edited) is not None


def test_a_disk_that_is_full_after_a_training_is_a_sentence(
    panel: Panel, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(jobs: Path, record: JobRecord) -> JobFolder:
        raise StorageError("the disk is full; free some space")

    write_model(stand_in.parent / "model")
    suggest(panel)
    stand_in.write_text("finish", encoding="utf-8")
    panel.do(action.START_TRAINING)
    monkeypatch.setattr(JobFolder, "create", full)
    tick(panel, lambda: not panel.busy)
    assert panel.state.failure is not None
    assert panel.state.failure.key == "disk full"
    assert len(panel.library.names) == 1


def test_suggest_in_the_window(window: ModuleWindow, stand_in: Path) -> None:
    give_result(stand_in)
    for name in NAMES[1:]:
        load_scan(name, labeled=False)
    window.settle()
    window.click("suggestButton")
    assert window.ui.suggestButton.checked
    assert window.ui.suggestProgress.visible
    window.wait(lambda: not window.panel.state.suggest.stage, ticked=False)  # by the panel's own timer
    assert window.texts("scanTable", 1) == statuses("labeled", "proposal", "proposal", "proposal")
    assert not window.ui.suggestProgress.visible
    window.click("nextButton")
    shown = slicer.mrmlScene.GetNodeByID(window.panel.state.selected_scan.result_id)
    assert shown.GetDisplayVisibility()
    window.click("acceptButton")
    window.wait(lambda: window.panel.state.suggest.labels == 2 and not window.panel.state.suggest.stage, ticked=False)
    shown = slicer.mrmlScene.GetNodeByID(window.panel.state.selected_scan.result_id)
    assert shown.GetDisplayVisibility()  # the new one in the place of the one that was shown
    window.exit()
    assert not window.widget.timer.active
    window.enter()
    window.click("suggestButton")
    assert not window.ui.suggestButton.checked
    assert window.texts("scanTable", 1).count(say("status proposal")) == 2
