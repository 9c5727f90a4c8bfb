"""The first start, in a Slicer with none of the packages: the panel opens and says in a sentence what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from GLMAESegmentationLib.messages import say
from GLMAESegmentationLib.setup.computer import this_computer
from GLMAESegmentationLib.setup.set_up import _size

SOURCE = Path(__file__).parents[2] / "GLMAESegmentation"

# Hides the packages and their metadata, as if they had never been installed, from this process and its children.
HOMES = ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME")
HIDDEN = """
import sys
from importlib import metadata
from importlib.machinery import PathFinder
ABSENT = {"torch", "monai", "scipy", "safetensors", "tqdm", "psutil", "filelock"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
distributions, distribution, find_spec = metadata.distributions, metadata.distribution, PathFinder.find_spec
def gone(name):
    if name in ABSENT:
        raise metadata.PackageNotFoundError(name)
    return distribution(name)
metadata.distribution = gone
metadata.distributions = lambda **words: [] if words.get("name") in ABSENT else distributions(**words)
PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name in ABSENT else find_spec(name, *rest))
"""

OPEN = """
import json, os, sys, time
from pathlib import Path
from mrml_scene import new_scene
from GLMAESegmentationLib.engine import command
new_scene()
# The variables of child processes are clean: what hides the packages must be beside the engine.
command.MODULE_FOLDER = os.pathsep.join([sys.argv[3], str(command.MODULE_FOLDER)])
from module_window import ModuleWindow
from standins.application import ModuleParent
window = ModuleWindow(Path(sys.argv[1]))
window.module.description(ModuleParent())
import importlib
for path in sorted(Path(sys.argv[2]).rglob("*.py")):
    importlib.import_module(".".join(path.relative_to(Path(sys.argv[2]).parent).with_suffix("").parts))
ui = window.ui
ui.advancedSection.collapsed = False
found = {
    "kind": window.panel.state.engine.kind,
    "sentence": ui.installLabel.text,
    "folder": str(window.data / "engine"),
    "next": ui.nextStepLabel.text,
    "can be pressed": [name for name in ("installButton", "trainButton", "segmentButton") if getattr(ui, name).enabled],
}
window.click("checkSetUpButton")
end = time.monotonic() + 120
while window.panel.state.checking and time.monotonic() < end:
    window.settle(1)
    time.sleep(0.02)
found["report"] = ui.setUpLabel.text
window.close()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the panel shows."""
    folder = tmp_path_factory.mktemp("first start")
    (folder / "sitecustomize.py").write_text(HIDDEN, encoding="utf-8")
    paths = [str(folder), str(SOURCE), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder / "settings"), str(SOURCE / "GLMAESegmentationLib"), str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), **dict.fromkeys(HOMES, str(folder))},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_panel_opens_and_says_what_it_needs(opened: dict[str, Any]) -> None:
    assert opened["kind"] == "own"
    computer = this_computer()
    sizes = {"download": _size(computer.download_bytes), "disk": _size(computer.disk_bytes)}
    assert opened["sentence"] == say("engine install", folder=opened["folder"], **sizes)
    assert "first start" in opened["folder"]  # where it will be
    assert opened["next"] == ""  # the frame says it, and nothing else says it again
    assert opened["can be pressed"] == ["installButton"]


def test_the_set_up_can_be_checked_before_anything_is_installed(opened: dict[str, Any]) -> None:
    lines = opened["report"].splitlines()
    assert lines[0].startswith("3D Slicer ")
    assert "torch MISSING, monai MISSING" in opened["report"]
    assert "GB free for temporary files" in opened["report"]
    assert "Device cpu: does not work: PyTorch does not load (No module named 'torch')" in lines
    assert lines[1].startswith("Engine's Python: own " + say("engine install", download="", disk="", folder="")[:20])
