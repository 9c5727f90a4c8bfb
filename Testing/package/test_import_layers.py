"""The import rules of .importlinter hold, and the linter would notice if they did not."""

from __future__ import annotations

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
