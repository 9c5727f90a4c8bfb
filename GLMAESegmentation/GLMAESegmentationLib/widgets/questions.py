"""The dialogs in which the panel asks for a file, a folder or a name; each gives "" when the user cancels."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

from ..messages import say
from ..models.library import ENDING


def ask_import() -> str:
    """The file of a model that was exported elsewhere."""
    return str(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), say("import title"), "", _kinds()) or "")


def ask_export(model: str) -> str:
    """The file to write a model to."""
    window, name = slicer.util.mainWindow(), model + ENDING
    file = str(qt.QFileDialog.getSaveFileName(window, say("export title"), name, _kinds()) or "")
    if not file or file.endswith(ENDING):
        return file
    # The dialog has asked about the name as it was typed, not about the one with the ending.
    file += ENDING
    question = say("replace file", file=Path(file).name)
    return file if not Path(file).exists() or slicer.util.confirmYesNoDisplay(question) else ""


def ask_name(model: str) -> str:
    """Another name for a model."""
    words = slicer.util.mainWindow(), say("rename title"), say("rename label")
    return str(qt.QInputDialog.getText(*words, qt.QLineEdit.Normal, model) or "")


def ask_interpreter() -> str:
    """The program of a Python that was set up for the engine elsewhere."""
    return str(qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), say("choose interpreter")) or "")


def ask_wheels() -> str:
    """The folder with the packages to install."""
    return str(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), say("choose wheels")) or "")


def _kinds() -> str:
    return say("models") + f" (*{ENDING})"
