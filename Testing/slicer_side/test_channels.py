"""Several volumes of one patient as the channels of one scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from module_window import ModuleWindow
from panel_scene import follow, load_scan, new_panel, parameter_node
from PySide6.QtCore import QItemSelectionModel
from standins.pythonqt import unwrap

from glmae.scans.cases import find_cases as cases_of_the_engine
from GLMAESegmentationLib.jobs.case_folder import CaseFolder
from GLMAESegmentationLib.jobs.case_writing import write_labeled
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.scene.choices import PanelChoices

NAMES = ("hippocampus_003", "hippocampus_039", "hippocampus_057", "hippocampus_097")


def load_two_patients() -> list[Any]:
    """Two volumes of each of two patients, the label of the first drawn on its second volume."""
    volumes = []
    for number, name in enumerate(NAMES):
        volume = load_scan(name, labeled=number == 1)
        volume.SetName(f"patient {number // 2 + 1} {('T1', 'T2')[number % 2]}")
        volumes.append(volume)
    return volumes


def select_rows(window: ModuleWindow, *rows: int) -> None:
    """As with the mouse and the Ctrl key."""
    table = unwrap(window.ui.scanTable)
    kinds = QItemSelectionModel.SelectionFlag
    for row in rows:
        first = kinds.ClearAndSelect if row == rows[0] else kinds.Select
        table.selectionModel().setCurrentIndex(table.model().index(row, 0), first | kinds.Rows)


def test_rows_become_channels_of_one_scan_and_scans_of_their_own_again(window: ModuleWindow) -> None:
    load_two_patients()
    window.settle()
    assert not window.ui.channelsButton.visible
    select_rows(window, 0, 1)
    window.settle(1)
    window.click("channelsButton")
    select_rows(window, 1, 2)
    window.click("channelsButton")
    assert window.texts("scanTable", 0) == ["patient 1 T1 + patient 1 T2", "patient 2 T1 + patient 2 T2"]
    assert [scan.role for scan in window.panel.state.scans] == ["train", "segment"]  # its label is the scan's
    select_rows(window, 0)
    window.click("channelsButton")
    assert window.texts("scanTable", 0)[:2] == ["patient 1 T1", "patient 1 T2"]
    assert len(window.panel.state.scans) == 3


def test_channels_reach_the_engine_as_one_case(scene: Any, job_folder: Path, tmp_path: Path) -> None:
    load_two_patients()
    panel = new_panel(scene, tmp_path)
    panel.set_channels([scan.volume_id for scan in panel.state.scans[:2]], together=True)
    panel.tick()
    folder = CaseFolder(job_folder)
    list(write_labeled(folder, panel.state.scans[:1], scene, None))
    (case,), _classes = cases_of_the_engine(folder.images, folder.labels)
    assert [path.name for path in case.images] == ["channel-01.nrrd", "channel-02.nrrd"]
    assert folder.image("case-01") == folder.images / "case-01"


def test_two_channels_are_learned_and_segmented_by_the_real_engine(scene: Any, tmp_path: Path) -> None:
    load_two_patients()
    panel = new_panel(scene, tmp_path)
    for first in (0, 1):  # the second two are one place further up by then
        panel.set_channels([scan.volume_id for scan in panel.state.scans[first : first + 2]], together=True)
    panel.choices.steps, panel.choices.device = 2, "cpu"
    panel.tick()
    assert [scan.role for scan in panel.state.scans] == ["train", "segment"]
    for click in (action.START_TRAINING, action.START_SEGMENTING):
        panel.do(click)
        follow(panel)
        assert panel.state.failure is None, panel.log
    assert panel.library.card(panel.state.model).content["backbone"]["channels"] == 2
    (queued,) = panel.state.queue
    assert (queued.name, queued.state) == ("patient 2 T1 + patient 2 T2", "done")
    result = scene.GetNodeByID(queued.result_id)
    role = result.GetReferenceImageGeometryReferenceRole()
    assert result.GetNodeReference(role).GetName() == "patient 2 T1"


def test_a_channel_is_deleted(scene: Any) -> None:
    volumes = load_two_patients()
    choices = PanelChoices(parameter_node())
    choices.set_channels([volume.GetID() for volume in volumes[:3]], together=True)
    scene.RemoveNode(volumes[0])
    assert choices.channels == [(volumes[1].GetID(), volumes[2].GetID())]
    scene.RemoveNode(volumes[1])
    assert choices.channels == []
    choices.set_channels([volumes[2].GetID(), volumes[3].GetID()], together=True)
    choices.set_channels([volumes[3].GetID()], together=False)
    assert choices.channels == []
