"""What a person drew, trained or paused is never lost: not by Undo, a later run, a deleted scan, or another model."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import slicer
import slicer.util
from module_window import ModuleWindow
from panel_scene import draw_in, give_result, load_scan, segment_with_stand_in, write_model

from GLMAESegmentationLib.jobs.folder import TRAIN, JobFolder, JobRecord
from GLMAESegmentationLib.models.places import move_here
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.scene.segment_voxels import content_of

NAMES = ("hippocampus_057", "hippocampus_097", "hippocampus_230")


@pytest.fixture
def segmented(window: ModuleWindow, stand_in: Path, tmp_path: Path) -> Iterator[ModuleWindow]:
    """A window with three scans and a result of each."""
    give_result(stand_in, remove=True)
    segment_with_stand_in(window, tmp_path, NAMES)
    return window


def result_of(number: int) -> Any:
    return slicer.util.getFirstNodeByClassByName("vtkMRMLSegmentationNode", f"{NAMES[number]} segmentation (GLMAE)")


def test_undo_leaves_what_was_corrected_by_hand(segmented: ModuleWindow) -> None:
    node = result_of(1)
    draw_in(node)
    before = content_of(node)
    segmented.click("undoButton")
    assert slicer.mrmlScene.GetNodeByID(node.GetID()) is node
    assert content_of(node) == before
    assert result_of(0) is None
    assert NAMES[0] in segmented.asked[-1]
    assert NAMES[1] not in segmented.asked[-1]
    assert segmented.panel.state.scans[1].state == "corrected"
    assert segmented.panel.state.scans[1].role == "train"


def test_a_later_run_neither_hides_nor_repeats_what_was_corrected(segmented: ModuleWindow) -> None:
    node = result_of(1)
    segmented.ui.scanTable.selectRow(1)
    draw_in(node)
    segmented.click("segmentButton")
    segmented.run()
    assert node.GetDisplayNode().GetVisibility()
    assert [scan.name for scan in segmented.panel.state.queue] == [NAMES[0], NAMES[2]]
    assert segmented.panel.state.scans[1].segmentation_id == node.GetID()


def test_a_correction_is_known_after_saving_and_loading(segmented: ModuleWindow, tmp_path: Path) -> None:
    draw_in(result_of(1))
    contents = {}
    for number in range(3):
        node = result_of(number)
        contents[number] = content_of(node)
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(tmp_path / f"{number}.seg.nrrd"))
        assert storage.WriteData(node)
        again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"again {number}")
        assert storage.ReadData(again)
        assert content_of(again) == contents[number]
    assert len(set(contents.values())) == 2


def test_the_digest_does_not_depend_on_the_part_of_the_grid_that_is_stored(segmented: ModuleWindow) -> None:
    node = result_of(0)
    before, identifier = content_of(node), node.GetSegmentation().GetNthSegmentID(0)
    volume = slicer.mrmlScene.GetNodeByID(segmented.panel.state.scans[0].volume_id)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, identifier, volume)  # on the whole grid
    assert content_of(node) == before
    node.GetSegmentation().GetSegment(identifier).SetName("Liver")
    assert content_of(node) != before


def test_undo_removes_what_it_asked_about_and_nothing_else(segmented: ModuleWindow) -> None:
    segmented.answer = False
    segmented.click("undoButton")
    assert all(result_of(number) for number in range(3))
    _question, about = segmented.panel.question(action.UNDO)
    draw_in(result_of(2))  # while the question is on the screen
    segmented.panel.do(action.UNDO, about)
    assert [result_of(number) is not None for number in range(3)] == [False, False, True]


def test_discard_asks_and_removes_the_job_that_it_named(window: ModuleWindow) -> None:
    for name in ("older", "newer"):
        job = JobFolder.create(window.panel.jobs, JobRecord(TRAIN, name, ("finetune",), state="stopped"))
    window.panel.interrupted.look((), at_once=True)
    window.settle(1)
    window.answer = False
    window.click("discardButton")
    assert '"newer"' in window.asked[-1]
    assert len(list(window.panel.jobs.iterdir())) == 2
    _question, about = window.panel.question(action.DISCARD)
    JobFolder.create(window.panel.jobs, JobRecord(TRAIN, "newest", ("finetune",), state="stopped"))
    window.panel.interrupted.look((), at_once=True)
    window.panel.do(action.DISCARD, about)
    assert not job.folder.exists()
    assert window.panel.state.interrupted == ("newest", "older")


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_selected_scan_is_deleted(window: ModuleWindow, last: int) -> None:
    """Slicer crashed with the last row: its removal was answered by filling the table again from inside."""
    volumes = [load_scan(name, labeled=False) for name in NAMES]
    window.settle()
    window.ui.scanTable.selectRow(last)
    window.settle()
    assert window.panel.selected == volumes[last].GetID()
    heard: list[bool] = []
    window.ui.scanTable.connect("itemSelectionChanged()", lambda: heard.append(True))
    slicer.mrmlScene.RemoveNode(volumes[last])
    window.settle()
    assert not heard  # while rows change
    assert window.texts("scanTable", 0) == [name for name in NAMES if name != NAMES[last]]
    assert window.panel.selected == ""
    assert window.ui.scanTable.currentRow() == -1
    assert not window.ui.labelButton.enabled
    window.ui.scanTable.selectRow(0)  # the row that was highlighted without being selected
    assert window.panel.selected == next(node.GetID() for node in volumes if node is not volumes[last])
    assert window.ui.labelButton.enabled


def test_the_selection_follows_its_scan(window: ModuleWindow) -> None:
    volumes = [load_scan(name, labeled=False) for name in NAMES]
    window.settle()
    window.ui.scanTable.selectRow(2)
    slicer.mrmlScene.RemoveNode(volumes[0])
    window.settle()
    assert window.panel.selected == volumes[2].GetID()
    assert window.ui.scanTable.currentRow() == 1


def test_export_writes_the_model_that_the_dialog_named(
    window: ModuleWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Old", "New"):
        window.panel.library.add(write_model(tmp_path / name), name)
    window.panel.choices.model = "Old"
    window.settle(1)

    def dialog(*_: Any) -> str:
        window.panel.choices.model = "New"  # a training ended while the dialog was open
        window.settle(1)
        return str(tmp_path / "Old.glmae.zip")

    monkeypatch.setattr(window.qt, "QFileDialog", SimpleNamespace(getSaveFileName=dialog), raising=False)
    window.panel.do(action.EXPORT, ("Old", str(tmp_path / "unused.glmae.zip")))
    window.click("export model")
    window.panel.library.delete("Old")
    assert window.panel.library.import_model(tmp_path / "Old.glmae.zip") == "Old"
    with zipfile.ZipFile(tmp_path / "Old.glmae.zip") as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"Old"}


def test_rename_and_delete_are_about_the_model_that_they_named(window: ModuleWindow, tmp_path: Path) -> None:
    for name in ("Old", "New"):
        window.panel.library.add(write_model(tmp_path / name), name)
    window.panel.choices.model = "New"
    window.panel.do(action.RENAME, ("Old", "Older"))
    assert (window.panel.library.names, window.panel.choices.model) == (("New", "Older"), "New")
    window.panel.do(action.DELETE, "Older")
    assert (window.panel.library.names, window.panel.choices.model) == (("New",), "New")


def test_a_failure_ends_with_its_scene(window: ModuleWindow, stand_in: Path) -> None:
    stand_in.write_text("crash", encoding="utf-8")
    for name in NAMES[:2]:
        load_scan(name)
    window.settle()
    window.click("trainButton")
    window.run(60)
    assert window.ui.failureFrame.visible
    slicer.mrmlScene.Clear(0)
    assert not window.ui.failureFrame.visible
    assert window.ui.nextStepLabel.text


def test_models_and_jobs_move_out_of_the_roaming_profile(tmp_path: Path, scene: Any) -> None:
    settings = tmp_path / "Größe μ" / "settings"
    old = settings / "GLMAE"
    write_model(old / "models" / "Leber")
    job = JobFolder.create(old / "jobs", JobRecord(TRAIN, "paused", ("finetune",), state="stopped"))
    os.utime(job.alive, (time.time() - 600,) * 2)
    opened = ModuleWindow(settings)
    assert opened.panel.library.names == ("Leber",)
    assert opened.panel.state.interrupted == ("paused",)
    assert not old.exists()
    opened.close()


def test_what_is_in_use_or_has_a_namesake_stays(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_model(old / "models" / "Leber")
    write_model(new / "models" / "Leber")
    job = JobFolder.create(old / "jobs", JobRecord(TRAIN, "of another Slicer", ("finetune",), state="running"))
    move_here(new, old)
    assert (old / "models" / "Leber" / "model.json").is_file()
    assert job.folder.is_dir()
