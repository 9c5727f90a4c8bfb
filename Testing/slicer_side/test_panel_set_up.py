"""The panel on a computer that is not set up yet: what is missing, installing it, checking it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer
from module_window import ModuleWindow

from GLMAESegmentationLib.setup import installation, set_up_report
from GLMAESegmentationLib.setup.installation_ending import Ending
from GLMAESegmentationLib.setup.packages import Package, installed_packages

ALL = installed_packages()
TORCH = Package("torch", "2.8", None, "missing")
LACKING = (TORCH, *(package for package in ALL if package.name != "torch"))
WHOLE = tuple(Package(package.name, package.needed, "9", "installed") for package in ALL)
OFFLINE = Ending("offline", "The servers could not be reached.", "Install from a folder of wheels.", log="no route")


@pytest.fixture
def bare(window: ModuleWindow, monkeypatch: pytest.MonkeyPatch) -> ModuleWindow:
    """The panel in a Slicer without PyTorch."""
    for module in ("setup.set_up", "widgets.slicer_application"):
        monkeypatch.setattr(f"GLMAESegmentationLib.{module}.installed_packages", lambda: LACKING)
    window.enter()
    return window


def test_what_is_missing_is_said_with_its_size(bare: ModuleWindow) -> None:
    ui = bare.ui
    bare.picture(Path(os.environ.get("GLMAE_SCREENSHOTS", bare.settings)) / "first_start.png")
    assert ui.installFrame.visible
    assert ui.installLabel.text.startswith("GLMAE needs PyTorch 2.8 (about ")
    assert "to download" in ui.installLabel.text
    assert ui.installButton.enabled
    assert not ui.trainButton.enabled
    assert ui.nextStepLabel.text == "First install what is missing: torch."


def test_a_failed_installation_says_why_and_its_log_is_copied(
    bare: ModuleWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[installation.Plan] = []

    def install(plan: installation.Plan) -> Ending:
        plans.append(plan)
        return OFFLINE

    monkeypatch.setattr("GLMAESegmentationLib.widgets.slicer_application.install", install)
    bare.click("installButton")
    assert (plans[0].torch, plans[0].wheels) == ("torch>=2.8", None)
    assert bare.ui.failureLabel.text == f"Installing (offline): {OFFLINE.sentence}"
    assert bare.ui.installFrame.visible
    bare.click("copyLogButton")
    assert bare.qt.QApplication.clipboard().text() == "no route"


@pytest.mark.parametrize("chosen", [True, False])
def test_installing_from_a_folder_and_the_restart(
    bare: ModuleWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: bool
) -> None:
    folder, restarts, wheels = str(tmp_path) if chosen else "", [], []

    def install(plan: installation.Plan) -> Ending:
        wheels.append(plan.wheels)
        monkeypatch.setattr("GLMAESegmentationLib.setup.set_up.installed_packages", lambda: WHOLE)
        return Ending("installed", "Everything is installed.", "Restart Slicer.", restart=True)

    monkeypatch.setattr("GLMAESegmentationLib.widgets.slicer_application.install", install)
    dialog = SimpleNamespace(getExistingDirectory=lambda *_: folder)
    monkeypatch.setattr(bare.qt, "QFileDialog", dialog, raising=False)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text, windowTitle=None: True)
    monkeypatch.setattr(slicer.util, "restart", lambda: restarts.append(True))
    bare.click("installOfflineButton")
    assert wheels == ([tmp_path] if chosen else [])
    assert restarts == ([True] if chosen else [])
    assert bare.ui.installFrame.visible is not chosen
    if chosen:
        assert bare.ui.nextStepLabel.text == "Everything is installed. Restart Slicer."


def test_my_set_up_is_checked_in_another_process_and_the_report_copied(
    window: ModuleWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_up_report, "slicer_version", lambda: "3D Slicer 5.12")
    # Its help only: Testing/engine/test_set_up_check.py runs all of it.
    monkeypatch.setattr(
        "GLMAESegmentationLib.setup.running_check.check_command", lambda: ("-m", "glmae.set_up_check", "--help")
    )
    ui = window.ui
    ui.advancedSection.collapsed = False
    assert not ui.copyReportButton.visible
    window.click("checkButton")
    assert (ui.checkButton.text, ui.checkButton.enabled) == ("Checking...", False)
    end = time.monotonic() + 60
    while window.panel.state.checking:
        assert time.monotonic() < end
        window.widget.onTick()
        window.qt.application.processEvents()
    assert ui.setUpLabel.text.startswith("3D Slicer 5.12\nusage: python -m glmae.set_up_check")
    window.click("copyReportButton")
    assert window.qt.QApplication.clipboard().text() == ui.setUpLabel.text


def test_a_python_that_cannot_check_is_a_sentence(window: ModuleWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("GLMAESegmentationLib.setup.running_check.interpreter", lambda: "/no/such/PythonSlicer")
    window.ui.advancedSection.collapsed = False
    window.click("checkButton")
    assert window.ui.failureLabel.text.startswith("The engine could not be started: ")
