"""The import rules of .importlinter hold, and the linter would notice if they did not."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cmake_text import MODULE, REPOSITORY


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONIOENCODING": "utf-8"}
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(REPOSITORY / ".importlinter"), "--no-cache"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=source,
        env=environment,
        timeout=120,
        check=False,
    )


def test_layers_hold() -> None:
    result = lint(MODULE)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        ("glmae/errors.py", "import torch", "What Slicer's own process uses needs no torch"),
        ("glmae/scans/__init__.py", "import vtk", "The engine runs without Slicer"),
        ("glmae/cli.py", "import research", "The engine runs without Slicer"),
        ("glmae/backbone/__init__.py", "from ..segmentation import loss", "The engine's parts build on each other"),
        ("GLMAESegmentationLib/__init__.py", "import glmae.segmentation", "torch-free parts of the engine only"),
        ("GLMAESegmentationLib/scene/choices.py", "from ..jobs import folder", "rooms build on each other"),
    ],
)
def test_a_broken_rule_is_noticed(tmp_path: Path, file: str, line: str, rule: str) -> None:
    for package in ("glmae", "GLMAESegmentationLib"):
        shutil.copytree(MODULE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / file, "a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode != 0
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert any(rule in text for text in broken), result.stdout


def floors(folder: Path) -> int:
    """How many files of a folder stand on each other, at most."""
    files = {file.stem: file for file in folder.glob("*.py")}
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            tree = ast.walk(ast.parse(files[name].read_text(encoding="utf-8")))
            below = {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.level == 1}
            heights[name] = 1 + max((height(other) for other in below if other in files), default=0)
        return heights[name]

    return max(map(height, files))


@pytest.mark.parametrize(("folder", "most"), [("scans", 6), ("backbone", 4), ("pretraining", 5), ("segmentation", 6)])
def test_no_folder_is_a_tower(folder: str, most: int) -> None:
    assert floors(MODULE / "glmae" / folder) <= most
