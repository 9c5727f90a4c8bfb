"""Scripts of the benchmarks, in this process: what they import takes seconds, and their rows are processes anyway."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Script:
    """Calls `main` of a script with words as on the command line; what it and its processes print is in the result."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "GLMAESegmentation"))

    def run(name: str, *words: object) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        status = importlib.import_module(name).main([str(word) for word in words])
        told = capfd.readouterr()
        return subprocess.CompletedProcess(name, status, told.out, told.err)

    return run
