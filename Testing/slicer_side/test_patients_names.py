"""Volumes named after patients: what the panel gives to be shared, logs and exported models, does not name them."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_scene import follow, load_scan, new_panel

from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.panel.aliases import Aliases
from GLMAESegmentationLib.panel.panel import Panel

NAMES = {
    "hippocampus_003": "Musterfrau^Erika 19640812",
    "hippocampus_039": "DOE JANE 778899",
    "hippocampus_057": "山田太郎 T1",
}
WORDS = ("musterfrau", "erika", "19640812", "doe", "jane", "778899", "山田太郎", "hippocampus_0")


@pytest.fixture
def panel(scene: Any, tmp_path: Path) -> Panel:
    for number, (file, name) in enumerate(NAMES.items()):
        load_scan(file, labeled=number < 2).SetName(name)
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        volume = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        node.SetName(f"{volume.GetName()} segmentation")
    opened = new_panel(scene, tmp_path)
    for _ in range(3):
        opened.tick()
    opened.choices.steps, opened.choices.device = 2, "cpu"
    return opened


def named_in(text: str) -> list[str]:
    return [word for word in WORDS if re.search(rf"\b{word}(\b|\d)", text.lower())]


def test_logs_and_models_of_real_jobs(panel: Panel, tmp_path: Path) -> None:
    assert [scan.name for scan in panel.state.scans] == list(NAMES.values())  # on the screen they have their names
    for click in (action.START_TRAINING, action.START_SEGMENTING):
        panel.do(click)
        follow(panel)
        assert panel.state.failure is None, panel.log
        assert '"finished"' in panel.log
        assert named_in(panel.log) == []
        assert str(Path.home()) not in panel.log
    (model,) = panel.library.names
    panel.library.export_model(model, tmp_path / "out.glmae.zip")
    with zipfile.ZipFile(tmp_path / "out.glmae.zip") as archive:
        card = archive.read(f"{model}/model.json").decode("utf-8")
        assert named_in(card + " ".join(archive.namelist())) == []
    assert [case["alias"] for case in json.loads(card)["training_cases"]] == ["case-01", "case-02"]


def test_a_failure_names_the_scan_on_the_screen_and_not_in_the_log(panel: Panel, scene: Any) -> None:
    panel.do(action.START_TRAINING)
    scene.RemoveNode(scene.GetFirstNodeByName(NAMES["hippocampus_039"]))
    follow(panel)
    assert panel.state.failure is not None
    assert panel.state.failure.cause == say("gone from training", scan="DOE JANE 778899")
    assert say("gone from training", scan="scan-02") in panel.log
    assert named_in(panel.log) == []


def test_only_whole_names_are_replaced() -> None:
    aliases = Aliases()
    aliases.see(["DOE", "DOE JANE", "CT", "C:\\x"])
    aliases.see(["DOE JANE", "later"])
    assert aliases.hide('DOE JANE, "DOE"; DOER, CT 7, later') == 'scan-02, "scan-01"; DOER, CT 7, scan-04'


def test_the_home_folder_is_not_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("C:\\Users\\Jane"))
    assert Aliases().hide('{"out": "C:\\\\Users\\\\Jane\\\\x"} C:\\Users\\Jane\\y') == '{"out": "~\\\\x"} ~\\y'
