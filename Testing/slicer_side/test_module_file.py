"""GLMAESegmentation.py itself, with stand-ins for Slicer's four base classes and its translations."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import slicer
from panel_scene import load_scan, write_model
from scene_content import GRIDS, add_volume, sample
from standins.application import ModuleParent, install_application, load_module
from standins.sample_data_module import install as install_sample_data

from glmae.errors import RequestError, ScanError
from GLMAESegmentationLib.scene.segmentation_export import export_segmentation

MODULE = Path(__file__).parents[2] / "GLMAESegmentation" / "GLMAESegmentation.py"
SCRIPTS = [MODULE, *(MODULE.parent / "GLMAESegmentationLib").rglob("*.py")]
PANEL = MODULE.parent / "Resources" / "UI" / "GLMAESegmentation.ui"


def test_its_own_test_passes_on_the_sample_scans(scene: Any, stand_in: Path, tmp_path: Path) -> None:
    """The ScriptedLoadableModuleTest that "Reload and Test" runs in Slicer, with a quick stand-in for the engine."""
    stand_in.write_text("finish", encoding="utf-8")
    write_model(stand_in.parent / "model")
    volume = load_scan("hippocampus_003")
    drawn = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    export_segmentation(drawn, volume, stand_in.parent / "result.seg.nrrd")
    install_application(tmp_path)
    load_module(MODULE).test("runTest").runTest()
    assert scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None  # the last test begins with an empty scene


def test_description() -> None:
    parent = ModuleParent()
    load_module(MODULE).description(parent)
    assert parent.title == "Few-Label Segmentation (GL-MAE)"
    assert parent.categories == ["Segmentation"]
    assert "https://github.com/SlicerGLMAE/SlicerGLMAE" in parent.helpText
    assert all(re.fullmatch(r"[^()]+ \([^()]+\)", name) for name in parent.contributors)
    assert "weights are licensed under CC BY-SA 4.0" in parent.acknowledgementText


def test_sample_scans_are_offered_when_slicer_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_application(tmp_path)
    sources, _titles = install_sample_data(monkeypatch, categories_have_titles=True)
    load_module(MODULE).description(ModuleParent())
    assert sources == []
    for receiver in slicer.app.when_started:
        receiver()
    assert [source.category for source in sources] == ["GLMAE", "GLMAE"]


def test_requests_that_cannot_be_met_are_sentences(scene: Any, job_folder: Path) -> None:
    logic = load_module(MODULE).logic()
    with pytest.raises(RequestError, match="No folder is chosen"):
        logic.exportLabeled("")
    volume = add_volume(sample()[0], GRIDS["RAS"])
    with pytest.raises(RequestError, match="No scan has a label"):
        logic.exportLabeled(str(job_folder))
    with pytest.raises(RequestError, match="Choose both"):
        logic.importResult("", volume)
    with pytest.raises(ScanError, match="is not there"):
        logic.importResult(str(job_folder / "gone.seg.nrrd"), volume)
    assert not job_folder.exists()


def test_nothing_but_slicer_and_the_standard_library_at_file_scope() -> None:
    """Slicer imports the file at start: before packages are installed, and for every user of the extension."""
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert "slicer" in imported
    assert imported - {"slicer"} <= set(sys.stdlib_module_names)


def test_no_f_string_is_translated() -> None:
    """The translators' tool extracts literal strings only."""
    calls = [
        node
        for path in SCRIPTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"
    ]
    assert len(calls) > 100
    assert [ast.unparse(call) for call in calls if not isinstance(call.args[0], ast.Constant)] == []


def test_every_widget_that_the_module_names_is_in_the_panel() -> None:
    root = ElementTree.parse(PANEL).getroot()
    widgets = {widget.get("name") for widget in root.iter("widget")}
    used = {name for path in SCRIPTS for name in re.findall(r"\bui\.(\w+)", path.read_text(encoding="utf-8"))}
    assert len(used) > 30
    assert used <= widgets


def test_every_node_selector_gets_the_scene() -> None:
    root = ElementTree.parse(PANEL).getroot()
    selectors = {w.get("name") for w in root.iter("widget") if (w.get("class") or "").startswith("qMRML")}
    selectors.discard(root.find("widget").get("name"))  # type: ignore[union-attr]
    connected = {c.findtext("receiver") for c in root.iter("connection")}
    assert selectors
    assert selectors == connected


def test_foreign_widgets_are_declared() -> None:
    root = ElementTree.parse(PANEL).getroot()
    foreign = {w.get("class") for w in root.iter("widget") if not (w.get("class") or "").startswith("Q")}
    assert foreign == {w.findtext("class") for w in root.iter("customwidget")}
