"""A real environment of the engine's own, made once for all tests here by the panel's real installer.

Real: pip fetching uv, uv, the environment, the packages from the index that pip is set up with, their hashes, the
check, the child process that trains, and the folder for computers without internet. Not real: Python is the one at
hand instead of one that uv downloads (`UV_PYTHON`); and on Linux PyTorch is a build for the CPU from that folder
(`UV_FIND_LINKS`) instead of the one for NVIDIA's cards from the index, which is 3 GB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from installer_process import InstallerProcess

from GLMAESegmentationLib.setup.environment import EngineEnvironment, State

ROOT = Path(__file__).parents[2]
PYTHON = {"UV_PYTHON": sys._base_executable}  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `development/wheels.py` fetches for computers without internet."""
    folder = tmp_path_factory.mktemp("USB µ")
    words = [sys.executable, str(ROOT / "development" / "wheels.py"), str(folder)]
    if sys.platform == "linux" and "+cpu" not in metadata.version("torch"):
        words += ["--torch", "cpu"]
    done = subprocess.run(words, env=dict(os.environ) | PYTHON, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", errors="replace")
    return folder


@pytest.fixture(scope="session")
def variables(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> dict[str, str]:
    """What the installer is started with: the Python at hand, and rubbish where another Python's libraries would be."""
    rubbish = tmp_path_factory.mktemp("rubbish")
    for name in ("numpy", "torch", "encodings"):
        (rubbish / name).mkdir()
        (rubbish / name / "__init__.py").write_text("raise SystemError('of another Python')", encoding="utf-8")
    found = PYTHON | dict.fromkeys(("PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"), str(rubbish))
    if sys.platform == "linux":
        torch = tmp_path_factory.mktemp("torch")
        shutil.copy(next(wheels.glob("torch-*.whl")), torch)
        found |= {"UV_FIND_LINKS": str(torch), "UV_TORCH_BACKEND": ""}
    return found


@pytest.fixture(scope="session")
def begin(variables: dict[str, str]) -> Callable[..., InstallerProcess]:
    """Starts the installer for a folder."""

    def start(root: Path, *words: str, **more: str) -> InstallerProcess:
        return InstallerProcess("install", root, words, variables | more)

    return start


@pytest.fixture(scope="session")
def killed(
    tmp_path_factory: pytest.TempPathFactory, begin: Callable[..., InstallerProcess]
) -> tuple[Path, list[State]]:
    """The folder of an installation that was killed three times, and the state after each."""
    root = tmp_path_factory.mktemp("Größe й") / "the engine"
    states = []
    for said in ('"step": "python"', "Downloading simpleitk", '"step": "check"'):
        process = begin(root)
        process.when(said)
        process.kill()
        states.append(EngineEnvironment(root).state)
    time.sleep(1)  # the check that was under way ends with its parent
    return root, states


@pytest.fixture(scope="session")
def engine(killed: tuple[Path, list[State]], begin: Callable[..., InstallerProcess]) -> EngineEnvironment:
    """The environment, in a folder with a space and letters of other alphabets, gone on with after it was killed."""
    process = begin(killed[0])
    assert process.wait() == ("installed", "")
    assert not any(line.startswith("Downloading") for line in process.lines)  # it went on where it was
    return EngineEnvironment(killed[0])
