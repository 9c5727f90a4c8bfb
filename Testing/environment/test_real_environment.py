"""A real environment: the panel's child process trains in it, whatever the variables of Slicer and of the user say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from installer_process import InstallerProcess
from mrml_scene import new_scene
from panel_scene import follow, load_scan, new_panel

from GLMAESegmentationLib.engine.command import MODULE_FOLDER, clean_environment
from GLMAESegmentationLib.panel import actions as action
from GLMAESegmentationLib.setup.environment import EngineEnvironment, size_of


def test_it_holds_what_the_lock_names(engine: EngineEnvironment) -> None:
    assert engine.state == "ready"
    listed = subprocess.run(
        [str(engine.uv), "pip", "list", "--python", str(engine.python), "--format", "json"],
        capture_output=True,
        check=True,
    )
    installed = {package["name"]: package["version"].split("+")[0] for package in json.loads(listed.stdout)}
    lock = engine.lock.read_text(encoding="utf-8")
    assert {"torch", "monai", "simpleitk"} <= set(installed)
    for name, version in installed.items():
        if name != "torch" and not name.startswith(("nvidia", "cuda", "triton")):
            assert f"\n{name}=={version} " in lock
    assert f"\ntorch=={installed['torch']}\n" in lock
    record = engine.record()
    assert record is not None
    assert record["bytes"] == pytest.approx(size_of(engine.root), rel=0.01)


def test_a_step_is_trained_in_it_by_the_panel(
    engine: EngineEnvironment, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        monkeypatch.setenv(name, variables[name])
    panel = new_panel(new_scene(), tmp_path, environment=engine.root)
    assert panel.state.engine.kind == "own"
    assert panel.state.engine.lacking == ""
    assert str(engine.root) in panel.state.engine.installed
    for scan in ("hippocampus_003", "hippocampus_039"):
        load_scan(scan)
    panel.choices.steps, panel.choices.device = 1, "cpu"
    panel.do(action.START_TRAINING)
    follow(panel, seconds=300)
    assert panel.state.failure is None, panel.log
    assert len(panel.state.models) == 1


def test_its_python_imports_nothing_of_others(engine: EngineEnvironment, variables: dict[str, str]) -> None:
    code = "import numpy, torch, SimpleITK, glmae\nfor each in (numpy, torch, SimpleITK, glmae): print(each.__file__)"
    words = [str(engine.python), "-c", code]
    done = subprocess.run(words, env=clean_environment(variables), capture_output=True, check=True)
    *packages, own = map(Path, done.stdout.decode("utf-8").splitlines())
    assert all(engine.site_packages in package.parents for package in packages)
    assert MODULE_FOLDER in own.parents


def test_an_update_of_the_lock_is_offered_and_needs_no_new_environment(
    engine: EngineEnvironment, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("# another\n", encoding="utf-8")
    changed = EngineEnvironment(engine.root, lock)
    assert changed.state == "outdated"


def test_damage_is_found_and_repaired_by_the_same_click(
    engine: EngineEnvironment, begin: Callable[..., InstallerProcess]
) -> None:
    """A virus scanner takes a library away, and a disk error cuts a file: only these two packages are fetched anew."""
    library = next((engine.site_packages / "scipy" / "linalg").glob("_flapack*"))
    library.unlink()
    cut = engine.site_packages / "tqdm" / "std.py"
    cut.write_bytes(cut.read_bytes()[:100])
    assert engine.state == "damaged"
    process = begin(engine.root)
    assert process.wait() == ("installed", "")
    assert library.exists()
    assert cut.stat().st_size > 10_000
    assert engine.state == "ready"
    assert sum(line.startswith((" + ", " ~ ")) for line in process.lines) == 2
