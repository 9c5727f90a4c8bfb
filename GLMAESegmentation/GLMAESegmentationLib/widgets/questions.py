"""The dialogs in which the panel asks for a file, a folder or a name; each gives "" when the user cancels."""

from __future__ import annotations

import qt

from ..models.library import ENDING
from ..translation import tr as _


def ask_import() -> str:
    """The file of a model that was exported elsewhere."""
    return str(qt.QFileDialog.getOpenFileName(None, _("Import a model"), "", _("Models") + f" (*{ENDING})") or "")


def ask_export(model: str) -> str:
    """The file to write a model to."""
    file = qt.QFileDialog.getSaveFileName(None, _("Export the model"), model + ENDING, _("Models") + f" (*{ENDING})")
    return file + ENDING if file and not file.endswith(ENDING) else str(file or "")


def ask_name(model: str) -> str:
    """Another name for a model."""
    return str(qt.QInputDialog.getText(None, _("Rename the model"), _("Name:"), qt.QLineEdit.Normal, model) or "")


def ask_wheels() -> str:
    """The folder with the packages to install."""
    return str(qt.QFileDialog.getExistingDirectory(None, _("A folder of wheels")) or "")
