"""The panel on the screen: what is shown and what can be pressed in each state, with real widgets of Qt."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import slicer
from module_window import MODULE, ModuleWindow
from panel_scene import load_scan, write_model
from standins.pythonqt import Wrapped, unwrap
from standins.slicer_widgets import FOREIGN

from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.panel.sentences import duration

REAL = json.loads((Path(__file__).parent / "standins" / "real_widgets.json").read_text(encoding="utf-8"))
TWO_SCANS = say("train", n=2, length=duration(1200, exact=True)) + "."
ONE_SCAN = say("train", n=1, length=duration(1200, exact=True)) + "."
UI = ElementTree.parse(MODULE.parent / "Resources" / "UI" / "GLMAESegmentation.ui").getroot()


def test_empty_scene(window: ModuleWindow) -> None:
    ui = window.ui
    assert ui.nextStepLabel.text == say("step load")
    assert ui.loadButton.enabled
    for name in ("labelButton", "trainButton", "segmentButton"):
        assert not getattr(ui, name).enabled
    for name in ("failureFrame", "installFrame", "interruptedFrame", "reviewSection", "drawSection", "stopButton"):
        assert not getattr(ui, name).visible


def test_a_role_is_chosen_in_the_table(window: ModuleWindow) -> None:
    for number, name in enumerate(("hippocampus_003", "hippocampus_039", "hippocampus_057")):
        load_scan(name, labeled=number < 2)
    window.settle()
    assert window.ui.trainButton.enabled
    selector = window.ui.scanTable.cellWidget(0, 3)
    assert selector.currentText == say("role train")
    selector.currentIndex = 2
    assert [scan.role for scan in window.panel.state.scans] == ["leave out", "train", "segment"]
    assert window.ui.trainLabel.text == ONE_SCAN
    window.ui.scanTable.cellWidget(1, 3).currentIndex = 2
    assert not window.ui.trainButton.enabled
    assert window.ui.trainLabel.text == say("train nothing")


def test_label_this_one_opens_the_editor_with_the_structures(window: ModuleWindow) -> None:
    load_scan("hippocampus_003")
    volume = load_scan("hippocampus_057", labeled=False)
    window.settle()
    window.ui.scanTable.selectRow(1)
    window.click("labelButton")
    assert window.editor.volume is volume
    segmentation = window.editor.segmentation.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["Anterior", "Posterior"]
    assert segmentation.GetNthSegment(0).GetColor() == pytest.approx((0.9, 0.5, 0.2))
    window.settle()
    assert window.panel.state.scans[1].state == "unlabeled"  # nothing is drawn in it yet
    window.click("labelButton")
    assert segmentation.GetNumberOfSegments() == 2


def test_deleted_and_renamed_nodes(window: ModuleWindow) -> None:
    volumes = [load_scan(name) for name in ("hippocampus_003", "hippocampus_039")]
    window.settle()
    volumes[0].SetName("Doe^Jane ü")
    volumes[1].GetScene().RemoveNode(volumes[1])
    window.settle()
    assert window.texts("scanTable", 0) == ["Doe^Jane ü"]
    assert window.ui.trainLabel.text == ONE_SCAN


def test_a_region_is_chosen_and_remembered_in_the_scene(window: ModuleWindow) -> None:
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Around the hippocampus")
    window.settle()
    window.ui.regionSelector.setCurrentNodeID(region.GetID())
    assert window.panel.choices.region is region
    assert say("train region", region="Around the hippocampus") in window.ui.trainLabel.text
    slicer.mrmlScene.RemoveNode(region)
    window.settle()
    assert window.panel.choices.region is None
    assert window.ui.trainLabel.text == TWO_SCANS


def test_choices_are_shown_as_they_are_stored(window: ModuleWindow) -> None:
    ui, choices = window.ui, window.panel.choices
    ui.budgetSelector.currentIndex = 2
    ui.deviceSelector.currentIndex = 1
    ui.goOnBox.checked = ui.pretrainedBox.checked = False
    assert (choices.budget, choices.device, choices.go_on, choices.pretrained) == ("thorough", "cpu", False, False)
    slicer.mrmlScene.Clear(0)
    assert (ui.budgetSelector.currentIndex, ui.deviceSelector.currentIndex) == (1, 0)
    assert ui.goOnBox.checked
    assert ui.pretrainedBox.checked


def test_models_are_exported_imported_renamed_and_deleted(
    window: ModuleWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window.panel.library.add(write_model(tmp_path / "trained"), "Leber")
    window.panel.choices.model = "Leber"
    window.settle(1)
    file = str(tmp_path / "shared")
    qt = window.qt
    monkeypatch.setattr(qt, "QFileDialog", SimpleNamespace(getSaveFileName=lambda *_: file), raising=False)
    window.click("export model")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: file + ".glmae.zip", raising=False)
    window.click("import model")
    assert window.ui.modelSelector.currentText == "shared"
    dialog = SimpleNamespace(getText=lambda *_: "Leber: neu?")
    monkeypatch.setattr(qt, "QInputDialog", dialog, raising=False)
    window.click("rename model")
    assert window.ui.modelSelector.currentText == "Leber neu"
    for answer in (False, True):
        assert "Leber neu" in window.panel.library.names
        window.answer = answer
        window.click("delete model")
    assert window.panel.library.names == ("Leber",)
    assert window.ui.modelSelector.currentText == ""
    window.ui.modelSelector.currentIndex = 0
    assert window.panel.choices.model == "Leber"


def test_the_ui_file_uses_only_what_the_real_widgets_have() -> None:
    for widget in UI.iter("widget"):
        kind = widget.get("class") or ""
        if kind in REAL:
            own = {p.get("name") for p in widget.findall("property")} - {"toolTip"}
            assert own <= set(REAL[kind]["properties"]), kind
    for connection in UI.iter("connection"):
        assert connection.findtext("signal") in REAL["qMRMLWidget"]["signals"]
        assert connection.findtext("slot") in REAL["qMRMLNodeComboBox"]["slots"]


@pytest.mark.parametrize("kind", FOREIGN)
def test_stand_ins_have_nothing_that_the_real_widgets_lack(kind: str) -> None:
    widget = FOREIGN[kind]()
    meta = widget.metaObject()
    own = {meta.property(n).name() for n in range(meta.propertyOffset(), meta.propertyCount())}
    assert own <= set(REAL[kind]["properties"])
    assert set(FOREIGN[kind].signals) <= set(REAL[kind]["signals"])


def test_no_property_of_the_ui_file_is_unknown_to_qt(window: ModuleWindow) -> None:
    """Qt keeps what it does not know as a dynamic property and says nothing."""
    for name, widget in vars(window.ui).items():
        unknown = [bytes(p.data()).decode() for p in unwrap(widget).dynamicPropertyNames()]
        assert not [p for p in unknown if not p.startswith("_")], name


def test_the_stand_ins_are_strict(window: ModuleWindow) -> None:
    button: Wrapped = window.ui.trainButton
    with pytest.raises(AttributeError):
        button.txet = "Train"
    with pytest.raises(AttributeError):
        button.setTxet("Train")
    with pytest.raises(TypeError):
        button.text()  # a property is no function in PythonQt
    with pytest.raises(ValueError, match="no signal"):
        button.connect("clicked(int)", print)


def test_everything_is_reached_by_the_keyboard(window: ModuleWindow) -> None:
    for kind in ("QPushButton", "QComboBox", "QSpinBox", "QCheckBox", "QTableWidget"):
        for widget in UI.iter("widget"):
            if widget.get("class") == kind:
                policy = unwrap(getattr(window.ui, widget.get("name") or "")).focusPolicy()
                assert policy.value & 1, widget.get("name")  # Qt.TabFocus


def test_no_colors_of_its_own() -> None:
    assert not [p for p in UI.iter("property") if p.get("name") in ("styleSheet", "palette")]
    code = MODULE.parent / "GLMAESegmentationLib" / "widgets"
    assert not [path.name for path in code.glob("*.py") if "setStyleSheet" in path.read_text(encoding="utf-8")]


def test_a_terminology_stands_beside_the_name(window: ModuleWindow) -> None:
    for name in ("hippocampus_003", "hippocampus_039"):
        load_scan(name)
    entry = "General~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Anatomic codes~^^~^^"
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        segment = node.GetSegmentation().GetNthSegment(0)
        segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
    window.settle()
    assert window.texts("classTable", 0) == ["Anterior (Liver)", "Posterior"]
