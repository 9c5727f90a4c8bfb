"""The panel behaves in Slicer as Slicer's own modules do: Reload, leaving and entering, dialogs, new regions."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import slicer
from module_window import ModuleWindow
from panel_scene import load_scan, write_model

from GLMAESegmentationLib.scene.region_box import region_box


def test_reload_leaves_one_working_panel(window: ModuleWindow) -> None:
    load_scan("hippocampus_057", labeled=False)
    window.settle()
    old = weakref.ref(window.panel)
    window.reload()
    assert window.widget.timer.active
    gc.collect()
    assert old() is None
    load_scan("hippocampus_097", labeled=False)
    window.wait(lambda: window.ui.scanTable.rowCount == 2, ticked=False)
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    window.ui.regionSelector.setCurrentNodeID(region.GetID())
    assert window.panel.choices.region is region


def test_left_without_a_job_it_rests(window: ModuleWindow) -> None:
    assert window.widget.timer.active
    window.exit()
    assert not window.widget.timer.active
    window.enter()
    assert window.widget.timer.active


def test_left_with_a_job_it_rests_when_the_job_is_over_and_says_so(window: ModuleWindow, stand_in: Path) -> None:
    write_model(stand_in.parent / "model")
    stand_in.write_text("finish", encoding="utf-8")
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    window.settle()
    window.click("trainButton")
    window.exit()
    assert window.widget.timer.active
    window.run(60)
    assert not window.widget.timer.active
    assert window.status == [window.panel.state.ending]
    assert window.panel.library.names[0] in window.status[0]


def test_labels_are_not_checked_while_another_module_is_open(
    window: ModuleWindow, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("GLMAESegmentationLib.jobs.label_check.SMALL_SCAN", 20_000_000)
    window.exit()
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    window.settle()
    assert not window.panel.state.checking_labels
    window.enter()
    window.settle()
    assert window.panel.state.checking_labels


def test_a_new_region_lies_around_the_selected_scan(window: ModuleWindow) -> None:
    volumes = [load_scan(name, labeled=False) for name in ("hippocampus_057", "hippocampus_097")]
    window.settle()
    window.ui.scanTable.selectRow(1)
    window.ui.regionSelector.addNode()
    region = window.panel.choices.region
    dimensions = volumes[1].GetImageData().GetDimensions()
    assert region_box(region, volumes[1]) == tuple((0, count) for count in dimensions)


def test_dialogs_belong_to_the_main_window_and_ask_before_they_overwrite(
    window: ModuleWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.panel.library.add(write_model(tmp_path / "trained"), "Leber")
    window.panel.choices.model = "Leber"
    window.settle(1)
    parents: list[Any] = []
    typed = tmp_path / "shared"
    existing = tmp_path / "shared.glmae.zip"
    existing.write_text("of another", encoding="utf-8")

    def dialog(answer: Any) -> Any:
        return lambda parent, *_: parents.append(parent) or answer

    files = SimpleNamespace(getSaveFileName=dialog(str(typed)), getOpenFileName=dialog(""))
    monkeypatch.setattr(window.qt, "QFileDialog", files, raising=False)
    monkeypatch.setattr(window.qt, "QInputDialog", SimpleNamespace(getText=dialog("")), raising=False)
    window.answer = False
    window.click("export model")
    assert "shared.glmae.zip" in window.asked[-1]
    assert existing.read_text(encoding="utf-8") == "of another"
    window.answer = True
    window.click("export model")
    assert existing.read_bytes().startswith(b"PK")
    window.click("import model")
    window.click("rename model")
    assert parents == [window.frame] * 4
