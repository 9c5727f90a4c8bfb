"""Fixtures of the Slicer side: one empty real MRML scene a test, and real scans in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from module_window import ModuleWindow
from mrml_scene import new_scene


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
