"""What the panel asks of the Slicer application around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer

from ..models.places import move_here


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

    def show_segmentation(self, segmentation_id: str) -> None:
        """The volume behind it, and the views where its structures are."""
        node = slicer.mrmlScene.GetNodeByID(segmentation_id)
        if node is None:
            return
        self.show_volume(node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) or "")
        node.SetDisplayVisibility(True)
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        if bounds[0] < bounds[1]:
            centre = ((bounds[axis] + bounds[axis + 1]) / 2 for axis in (0, 2, 4))
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *centre, slicer.vtkMRMLSliceNode.CenteredJumpSlice)

    def confirm(self, question: str) -> bool:
        """A question with Yes and No."""
        return bool(slicer.util.confirmYesNoDisplay(question))

    def copy(self, text: str) -> None:
        """Into the system's clipboard."""
        qt.QApplication.clipboard().setText(text)


def open_editor(segmentation: Any, volume: Any) -> None:
    """Go to the Segment Editor with a segmentation and the volume that it belongs to."""
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    segmentation.SetDisplayVisibility(True)
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.SegmentEditorWidget.editor
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)


def data_folder() -> Path:
    """Where models and jobs are kept: in the data that stay on this computer, whatever version of Slicer runs."""
    place = qt.QStandardPaths.writableLocation(qt.QStandardPaths.GenericDataLocation)
    folder = Path(place) / "slicer.org" / "GLMAE"
    move_here(folder, Path(slicer.app.slicerUserSettingsFilePath).parent / "GLMAE")
    return folder
