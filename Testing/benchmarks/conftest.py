"""Scripts of the benchmarks in this process, and most of their rows, too: what they import takes seconds."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


@pytest.fixture
def rows_here(script: Script) -> Callable[[str], AbstractContextManager[None]]:
    """Within it the script of this name calls `main` of its row scripts instead of starting processes."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        return subprocess.CompletedProcess(command, importlib.import_module(Path(command[1]).stem).main(command[2:]))

    @contextmanager
    def here(name: str) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(importlib.import_module(name), "subprocess", SimpleNamespace(run=run))
            yield

    return here
