"""Real scans, a folder with a difficult name, and what every message to a user must be like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.events import Events, recorded

SAMPLES = Path(__file__).parents[3] / "GLMAESegmentation" / "Resources" / "SampleScans"


@pytest.fixture
def samples() -> Path:
    """The folder of bundled scans: `images`, `labels` and `labels/classes.json`."""
    return SAMPLES


@pytest.fixture
def scan() -> sitk.Image:
    """A real MR scan, 34x52x35 voxels of 1 mm, stored in RAS order."""
    return sitk.ReadImage(str(SAMPLES / "images" / "hippocampus_003.nii.gz"))


@pytest.fixture
def label() -> sitk.Image:
    """Its label, 0-2."""
    return sitk.ReadImage(str(SAMPLES / "labels" / "hippocampus_003.nii.gz"), sitk.sitkUInt8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as clinics have them: spaces and letters of other alphabets."""
    path = tmp_path / "Köpfe и головы 頭 (1)"
    path.mkdir()
    return path


@pytest.fixture
def heard() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def events(heard: list[dict[str, Any]]) -> Events:
    """Events that end up in `heard`."""
    return recorded(heard)


@pytest.fixture
def save(folder: Path) -> Callable[..., Path]:
    """Write an image, or an array [K, J, I] on an identity grid, under a name in `folder`."""

    def write(content: Any, name: str, spacing: tuple[float, ...] | None = None, compress: bool = True) -> Path:
        image = sitk.GetImageFromArray(content) if isinstance(content, np.ndarray) else content
        if spacing is not None:
            image.SetSpacing(spacing)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path), compress)
        return path

    return write


@pytest.fixture
def said(tmp_path: Path) -> Callable[[pytest.ExceptionInfo[Exception], Any], str]:
    """The text of an error, after checking that it is one sentence, with a remedy, that names the file or case."""

    def check(caught: pytest.ExceptionInfo[Exception], name: Any) -> str:
        text = str(caught.value)
        assert str(name) in text
        assert "\n" not in text
        assert text.endswith((".", "?"))
        assert ";" in text, "cause; remedy"
        assert len(text.replace(str(name), "").replace(str(tmp_path), "")) < 400  # of our own words
        return text

    return check
