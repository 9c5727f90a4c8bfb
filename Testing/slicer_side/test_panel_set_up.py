"""The panel on a computer that is not set up yet: what is needed, installing it, choosing another Python, checking it.

The installer is a stand-in that says what the real one says; Testing/environment runs the real one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer
from module_window import ModuleWindow

from GLMAESegmentationLib.engine import command
from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.setup import report, set_up
from GLMAESegmentationLib.setup.computer import Computer, this_computer
from GLMAESegmentationLib.setup.environment import EngineEnvironment
from GLMAESegmentationLib.setup.packages import Package

ABSENT = (Package("torch", "2.8", None, "missing"),)
# Prints its lines, waits for `go` beside it, or for a line on its standard input, and prints the last line.
INSTALLER = """
import json, sys, threading, time
from pathlib import Path
HERE = Path(__file__).parent
lines = (HERE / "lines").read_text(encoding="utf-8").splitlines()
(HERE / "arguments").write_text("\\n".join(sys.argv[1:]), encoding="utf-8")
stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
for line in lines[:-1]:
    print(line, flush=True)
print("no route", file=sys.stderr, flush=True)
while not (HERE / "go").exists() and not stopped.is_set():
    time.sleep(0.01)
print('{"event": "ended", "name": "canceled", "detail": ""}' if stopped.is_set() else lines[-1], flush=True)
"""


class Stand:
    """What the stand-in installer says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def says(self, name: str, detail: str = "", *before: dict[str, object]) -> None:
        lines = [*before, {"event": "ended", "name": name, "detail": detail}]
        (self.folder / "lines").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    def go(self) -> None:
        (self.folder / "go").touch()

    @property
    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    folder = tmp_path / "installer" / "GLMAESegmentationLib" / "setup"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    (folder / "installer.py").write_text(INSTALLER, encoding="utf-8")
    monkeypatch.setattr(command, "MODULE_FOLDER", tmp_path / "installer")
    return Stand(folder)


@pytest.fixture
def bare(stand: Stand, window: ModuleWindow, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleWindow]:
    """The panel in a Slicer without PyTorch."""
    monkeypatch.setattr(set_up, "installed_packages", lambda path=None: ABSENT)
    window.enter()
    return window


def root(window: ModuleWindow) -> Path:
    """Of the engine's own environment."""
    return window.settings / "Local" / "slicer.org" / "GLMAE" / "engine"


def test_what_is_needed_is_said_with_size_and_place(bare: ModuleWindow, tmp_path: Path) -> None:
    ui = bare.ui
    assert ui.installFrame.visible
    assert ui.installTitle.text == say("set-up needed")
    computer = this_computer()
    sizes = {"download": set_up._size(computer.download_bytes), "disk": set_up._size(computer.disk_bytes)}
    assert ui.installLabel.text == say("engine install", folder=root(bare), **sizes)
    if "GLMAE_SCREENSHOTS" in os.environ:  # with the folder of nobody's computer
        ui.installLabel.text = ui.installLabel.text.replace(str(bare.settings / "Local"), "/home/me/.local/share")
        bare.picture(Path(os.environ["GLMAE_SCREENSHOTS"]) / "first_start.png")
    assert (ui.installButton.text, ui.installButton.enabled) == (say("button install"), True)
    assert not ui.trainButton.enabled
    assert ui.nextStepLabel.text == ui.trainLabel.text == ui.segmentLabel.text == ""  # said once


def test_an_installation_with_progress_and_a_second_click(bare: ModuleWindow, stand: Stand, tmp_path: Path) -> None:
    ui = bare.ui
    download = {"event": "download", "package": "torch", "done": 412_000_000, "total": 850_000_000}
    stand.says("installed", "", {"event": "step", "step": "packages"}, download)
    bare.click("installButton")
    bare.wait(lambda: "412" in ui.installLabel.text)
    assert ui.installLabel.text == say("install download", package="torch", done=412, total=850)
    assert (ui.installProgress.visible, ui.installProgress.value) == (True, 485)
    assert not ui.installButton.visible
    assert not ui.checkSetUpButton.enabled
    assert stand.arguments == ["install", str(root(bare))]
    bare.panel.do("install")  # as a click that came late
    stand.go()
    bare.wait(lambda: not ui.installProgress.visible)
    assert bare.panel.state.failure is None


def test_a_failed_installation_says_why_and_its_log_is_copied(bare: ModuleWindow, stand: Stand) -> None:
    stand.says("offline")
    stand.go()
    bare.click("installButton")
    bare.wait(lambda: bare.panel.state.failure is not None)
    assert bare.panel.state.failure.key == "offline"
    assert bare.ui.failureLabel.text == bare.panel.state.failure.sentence
    assert bare.ui.installButton.visible
    bare.click("copyLogButton")
    assert bare.qt.QApplication.clipboard().text().strip() == "no route"


def test_what_to_press_is_what_the_button_then_says(bare: ModuleWindow, stand: Stand) -> None:
    stand.says("offline")
    stand.go()
    bare.click("installButton")
    bare.wait(lambda: bare.panel.state.failure is not None)
    assert say("button install") in bare.panel.state.failure.remedy
    EngineEnvironment(root(bare)).folder.mkdir(parents=True)  # it got further this time
    bare.click("installButton")
    bare.wait(lambda: bare.ui.installButton.text == say("button repair"))
    assert say("button repair") in bare.ui.failureLabel.text
    assert "{" not in bare.ui.failureLabel.text


def test_what_another_slicer_installs_is_found(bare: ModuleWindow, stand: Stand) -> None:
    stand.says("busy")
    stand.go()
    bare.click("installButton")
    bare.wait(lambda: bare.panel.state.failure is not None)
    environment = EngineEnvironment(root(bare))
    environment.folder.mkdir(parents=True)
    environment.set_ready()
    bare.settle(1)
    assert bare.ui.installButton.text == say("button repair")  # its Python is not there in this test
    environment.set_unfinished()
    environment.folder.rmdir()
    bare.settle(1)
    assert bare.ui.installButton.text == say("button install")


def test_canceled(bare: ModuleWindow, stand: Stand) -> None:
    stand.says("installed", "", {"event": "step", "step": "python"})
    bare.click("installButton")
    bare.wait(lambda: bare.ui.installLabel.text == say("install python"))
    bare.click("cancelInstallButton")
    bare.wait(lambda: not bare.ui.installProgress.visible)
    assert bare.panel.state.failure is None
    assert bare.ui.installButton.visible


def test_an_installer_that_is_killed_is_an_interrupted_installation(bare: ModuleWindow, stand: Stand) -> None:
    (stand.folder / "installer.py").write_text("import os; os._exit(9)", encoding="utf-8")
    bare.click("installButton")
    bare.wait(lambda: bare.panel.state.failure is not None)
    assert bare.panel.state.failure.key == "interrupted"


@pytest.mark.parametrize("chosen", [True, False])
def test_installing_from_a_folder(
    bare: ModuleWindow, stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: bool
) -> None:
    stand.says("installed")
    stand.go()
    folder = str(tmp_path) if chosen else ""
    monkeypatch.setattr(bare.qt, "QFileDialog", SimpleNamespace(getExistingDirectory=lambda *_: folder), raising=False)
    bare.click("installOfflineButton")
    bare.wait(lambda: not bare.ui.installProgress.visible)
    if chosen:
        assert stand.arguments[-2:] == ["--wheels", str(tmp_path)]
    else:
        assert not (stand.folder / "arguments").exists()


def test_removing_asks_first(bare: ModuleWindow, stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = EngineEnvironment(root(bare))
    environment.folder.mkdir(parents=True)
    environment.set_ready()
    bare.enter()
    bare.ui.advancedSection.collapsed = False
    assert bare.ui.installButton.text == say("button repair")  # its Python is gone
    questions: list[str] = []
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text: questions.append(text))
    bare.click("removeEngineButton")
    assert str(environment.root) in questions[0]
    assert not (stand.folder / "arguments").exists()
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text: True)
    stand.says("removed")
    stand.go()
    bare.click("removeEngineButton")
    bare.wait(lambda: not bare.ui.installProgress.visible)
    assert stand.arguments == ["remove", str(environment.root)]


def choose(window: ModuleWindow, index: int) -> None:
    """As the user does: the list shows the choice, then says that it was made."""
    window.ui.engineSelector.currentIndex = index
    window.ui.engineSelector._qobject.activated.emit(index)


def test_another_interpreter_is_asked_what_it_has(
    window: ModuleWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ui = window.ui
    ui.advancedSection.collapsed = False
    answers = [str(tmp_path / "no python"), sys.executable]
    monkeypatch.setattr(
        window.qt, "QFileDialog", SimpleNamespace(getOpenFileName=lambda *_: answers.pop(0)), raising=False
    )
    choose(window, 2)
    assert say("python not started", reason="").rstrip("()") in ui.installLabel.text
    assert not ui.installButton.visible
    choose(window, 2)
    window.wait(lambda: not window.panel.state.engine.working)
    assert not ui.installFrame.visible
    assert (ui.engineSelector.currentIndex, ui.enginePlaceLabel.text) == (2, sys.executable)
    again = ModuleWindow(window.settings)  # the choice is kept
    assert again.panel.state.engine.kind == "other"
    again.close()
    choose(window, 0)
    assert ui.installFrame.visible
    assert window.panel.state.engine.kind == "own"


def test_my_set_up_is_checked_in_another_process_and_the_report_copied(
    window: ModuleWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "slicer_version", lambda: "3D Slicer 5.12")
    # Its help only: Testing/engine/test_set_up_check.py runs all of it.
    monkeypatch.setattr(set_up, "CHECK", ("-m", "glmae.set_up_check", "--help"))
    ui = window.ui
    ui.advancedSection.collapsed = False
    assert not ui.copyReportButton.visible
    window.click("checkSetUpButton")
    assert (ui.checkSetUpButton.text, ui.checkSetUpButton.enabled) == (say("checking set-up"), False)
    window.wait(lambda: not window.panel.state.checking)
    assert ui.setUpLabel.text.startswith(
        "3D Slicer 5.12\nEngine's Python: slicers\nusage: python -m glmae.set_up_check"
    )
    window.click("copyReportButton")
    assert window.qt.QApplication.clipboard().text() == ui.setUpLabel.text


def test_a_python_that_cannot_check_is_a_sentence(window: ModuleWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_up, "slicers_python", lambda: "/no/such/PythonSlicer")
    window.ui.advancedSection.collapsed = False
    window.click("checkSetUpButton")
    assert window.panel.state.failure.key == "not started"
    assert window.ui.failureLabel.text == window.panel.state.failure.sentence


def test_a_mac_that_can_never_compute_is_told_before_installing(window: ModuleWindow, tmp_path: Path) -> None:
    made = set_up.SetUp(lambda command: None, tmp_path / "engine", tmp_path / "choice", Computer("macos", "x86_64"))
    made.choose(("own", ""))
    assert made.status.lacking == say("engine mac")
    assert made.status.button == ""


def test_sys_executable_may_be_slicer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PythonSlicer on the path, starting it would open another Slicer for each job."""
    monkeypatch.setattr(command.shutil, "which", lambda name: None)
    assert command.slicers_python() == sys.executable
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    with pytest.raises(OSError, match="PythonSlicer"):
        command.slicers_python()
