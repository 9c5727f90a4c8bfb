"""How an engine process is started: program, arguments, folder, environment. Whoever starts it decides with what."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[2]
# Slicer sets them for itself, and the user for programs of his own: with them another Python loads the wrong libraries.
_OF_OTHERS = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX"),
)


@dataclass(frozen=True)
class EngineCommand:
    """One process to start.

    Attributes:
        arguments: of the interpreter.
        program: the interpreter; "" for the one that the user chose for the engine.
        folder: to start in; None for the current one.
        environment: all of its environment.
    """

    arguments: tuple[str, ...]
    program: str = ""
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: clean_environment(startup_environment()))


def engine_command(words: list[str], folder: Path, alive: Path) -> EngineCommand:
    """The process for `glmae WORDS --events`, see `engine.child`.

    It starts in `folder`: seen from there the names of its files are ASCII, which the user's own name need not be
    (`glmae.files.itk_path`).
    """
    arguments = ("-m", "GLMAESegmentationLib.engine.child", str(alive), *words, "--events")
    return EngineCommand(arguments, folder=folder)


def slicers_python() -> str:
    """PythonSlicer beside Slicer; outside Slicer the interpreter that runs this.

    Raises:
        OSError: neither is there: `sys.executable` may be Slicer itself, and would open another one.
    """
    found = shutil.which("PythonSlicer")
    if found is None and Path(sys.executable).stem.lower().startswith("python"):
        found = sys.executable
    if found is None:
        raise OSError("PythonSlicer is not there")
    return found


def startup_environment() -> dict[str, str]:
    """The variables that Slicer was started with, before it set its own; outside Slicer those of this process."""
    try:
        from slicer.util import startupEnvironment

        return dict(startupEnvironment())
    except (ImportError, AttributeError):  # slicer-core has no launcher
        return dict(os.environ)


def clean_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Without what is for other programs, with the engine on the path, and with UTF-8 for files and output."""
    kept = {
        name: value
        for name, value in given.items()
        if name.upper() not in _OF_OTHERS and not name.upper().startswith("DYLD_")
    }
    return {
        **kept,
        "PYTHONPATH": str(MODULE_FOLDER),
        "PYTHONSAFEPATH": "1",  # the current folder is not on the path
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": "utf-8",
    }
