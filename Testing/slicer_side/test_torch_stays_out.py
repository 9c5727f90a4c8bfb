"""In Slicer's own process torch must stay unloaded: it has crashed Slicer, and the engine runs in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "GLMAESegmentation"
REPORT = "import json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def loaded_by(statements: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after `statements`."""
    paths = [str(SOURCE), str(Path(__file__).parent)]
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{statements}\n{REPORT}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_the_whole_slicer_side_loads_without_torch() -> None:
    library = SOURCE / "GLMAESegmentationLib"
    files = [path.relative_to(library).with_suffix("") for path in library.rglob("*.py") if path.stem != "__init__"]
    modules = sorted(".".join(file.parts) for file in files if file.parts[0] != "widgets")  # these need Qt
    assert len(modules) >= 40
    loaded = loaded_by("\n".join(f"import GLMAESegmentationLib.{name}" for name in modules))
    assert {"GLMAESegmentationLib", "glmae", "slicer"} <= loaded
    assert not loaded & {"torch", "monai", "safetensors", "qt", "ctk", "PySide6"}


def test_the_torch_free_part_of_the_engine_loads_without_torch_and_without_slicer() -> None:
    parts = ["errors", "events", "files", "model_folder"]
    parts += [f"scans.{path.stem}" for path in (SOURCE / "glmae" / "scans").glob("*.py") if path.stem != "__init__"]
    loaded = loaded_by("\n".join(f"import glmae.{name}" for name in parts))
    assert "glmae" in loaded
    assert not loaded & {"torch", "monai", "safetensors", "slicer", "vtk", "vtkmodules"}


def test_the_start_of_slicer_loads_nothing_of_the_engine() -> None:
    """What is registered at every start of Slicer, also for users who never open the module."""
    loaded = loaded_by(
        "import pytest\n"
        "from standins.application import install\n"
        "from standins.sample_data_module import install as install_sample_data\n"
        "install()\n"
        "install_sample_data(pytest.MonkeyPatch(), categories_have_titles=True)\n"
        "from GLMAESegmentationLib.scene.sample_data import register_sample_data\n"
        "register_sample_data()"
    )
    assert "GLMAESegmentationLib" in loaded
    assert not loaded & {"glmae", "SimpleITK"}


def test_the_module_file_loads_neither_torch_nor_anything_that_is_not_in_slicer() -> None:
    module = str(SOURCE / "GLMAESegmentation.py")
    loaded = loaded_by(
        f"from pathlib import Path\nfrom standins.application import load_module\nload_module(Path({module!r}))"
    )
    assert "slicer" in loaded
    assert not loaded & {"torch", "monai", "safetensors", "scipy", "tqdm", "SimpleITK", "glmae"}
