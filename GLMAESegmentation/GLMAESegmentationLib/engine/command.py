"""How an engine process is started: program, arguments, environment. Whoever starts it decides with what."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class EngineCommand:
    """One process to start.

    Attributes:
        program: the Python interpreter.
        arguments: its arguments.
        environment: all of its environment.
    """

    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def engine_command(words: list[str], alive: Path) -> EngineCommand:
    """The process for `glmae WORDS --events`, see `engine.child`."""
    arguments = ("-m", "GLMAESegmentationLib.engine.child", str(alive), *words, "--events")
    return EngineCommand(interpreter(), arguments, environment())


def interpreter() -> str:
    """PythonSlicer beside Slicer; outside Slicer the interpreter that runs this."""
    return shutil.which("PythonSlicer") or sys.executable


def environment() -> dict[str, str]:
    """This process's environment, with the engine on the path of the child alone, and UTF-8 in its log."""
    paths = [str(MODULE_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
