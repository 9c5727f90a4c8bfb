"""What the panel asks of the Slicer application around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from ..missing_packages import REQUIRED, missing_packages
from ..translation import tr as _


class SlicerApplication:
    """The `Surroundings` of the panel in Slicer."""

    def load_scans(self) -> None:
        """Slicer's own dialog for volumes."""
        slicer.util.openAddVolumeDialog()

    def show_volume(self, volume_id: str) -> None:
        """Show a volume in the slice views, fitted to them."""
        volume = slicer.mrmlScene.GetNodeByID(volume_id)
        if volume is not None:
            slicer.util.setSliceViewerLayers(background=volume, fit=True)

    def confirm(self, question: str) -> bool:
        """A question with Yes and No."""
        return bool(slicer.util.confirmYesNoDisplay(question))

    def copy(self, text: str) -> None:
        """Into the system's clipboard."""
        qt.QApplication.clipboard().setText(text)

    def install(self) -> None:
        """PyTorch through its extension, so that it fits the computer; the rest through pip."""
        missing = missing_packages()
        if not slicer.util.confirmYesNoDisplay(
            _("Download and install {packages}? This needs about 3 GB of disk space.").format(
                packages=", ".join(missing)
            )
        ):
            return
        if "torch" in missing:
            import PyTorchUtils

            PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=">=2.8")
        others = [name for name in missing if name in REQUIRED and name != "torch"]
        if others:
            slicer.util.pip_install(others)


def open_editor(segmentation: Any, volume: Any) -> None:
    """Go to the Segment Editor with a segmentation and the volume that it belongs to."""
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    segmentation.SetDisplayVisibility(True)
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.SegmentEditorWidget.editor
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)


def settings_folder() -> Path:
    """Where models and jobs are kept: beside Slicer's own settings, so that they outlive an update of Slicer."""
    return Path(slicer.app.slicerUserSettingsFilePath).parent / "GLMAE"
