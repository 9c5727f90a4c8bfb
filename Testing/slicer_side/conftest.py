"""Fixtures of the Slicer side: one empty real MRML scene a test, and real scans in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mrml_scene import new_scene


@pytest.fixture
def scene() -> Any:
    return new_scene()


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    """As on the computers of users: spaces and other alphabets in the path."""
    return tmp_path / "Größe μ 漢字" / "my job"
