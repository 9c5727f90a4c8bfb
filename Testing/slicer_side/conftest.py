"""Fixtures of the Slicer side: one empty real MRML scene a test, and real scans in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from module_window import ModuleWindow
from mrml_scene import new_scene

from GLMAESegmentationLib.engine import command as engine_command
from GLMAESegmentationLib.jobs import label_check


@pytest.fixture
def scene() -> Any:
    return new_scene()


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    """As on the computers of users: spaces and other alphabets in the path."""
    return tmp_path / "Größe μ 漢字" / "my job"


@pytest.fixture
def window(scene: Any, tmp_path: Path) -> Iterator[ModuleWindow]:
    """The module's panel, opened on an empty scene."""
    opened = ModuleWindow(tmp_path / "Größe μ" / "settings")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def unasked_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are checked when a test asks for it: each check is a process with torch."""
    monkeypatch.setattr(label_check, "SMALL_SCAN", 0)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Child processes run `stand_in_engine.py` instead of the engine; the file that says how it behaves."""
    folder = tmp_path / "engine" / "glmae"
    library = tmp_path / "engine" / "GLMAESegmentationLib"
    for package in (folder, library, library / "engine"):
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    shutil.copy(Path(__file__).parent / "stand_in_engine.py", folder / "__main__.py")
    shutil.copy(Path(__file__).parent / "stand_in_live.py", folder)
    shutil.copy(engine_command.MODULE_FOLDER / "GLMAESegmentationLib" / "engine" / "child.py", library / "engine")
    (folder / "behavior").write_text("run", encoding="utf-8")
    monkeypatch.setattr(engine_command, "MODULE_FOLDER", tmp_path / "engine")
    return folder / "behavior"
