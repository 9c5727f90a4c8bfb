"""What the panel asks of the Slicer application around it."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

from ..models.places import move_here
from ..scene.display import center_of, show_alone, toggle_surfaces


class SlicerApplication:
    """Slicer around the panel."""

    def load_scans(self) -> None:
        """Slicer's own dialog for volumes."""
        slicer.util.openAddVolumeDialog()

    def open_dicom(self) -> None:
        """Slicer's DICOM browser."""
        slicer.util.selectModule("DICOM")

    def show_scan(self, volume_id: str, segmentation_id: str) -> None:
        """A volume in the slice views, with this segmentation and no other; the views go to its middle."""
        volume, segmentation = (
            slicer.mrmlScene.GetNodeByID(node) if node else None for node in (volume_id, segmentation_id)
        )
        if volume is not None:
            slicer.util.setSliceViewerLayers(background=volume, fit=True)
        show_alone(segmentation, slicer.mrmlScene)
        center = center_of(segmentation) if segmentation is not None else None
        if center is not None:
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center, slicer.vtkMRMLSliceNode.CenteredJumpSlice)

    def show_surfaces(self, segmentation_id: str) -> None:
        """A segmentation in the 3D views, or not any more."""
        segmentation, layout = slicer.mrmlScene.GetNodeByID(segmentation_id), slicer.app.layoutManager()
        if segmentation is not None and toggle_surfaces(segmentation) and layout is not None:
            for number in range(layout.threeDViewCount):
                layout.threeDWidget(number).threeDView().resetFocalPoint()

    def confirm(self, question: str) -> bool:
        """A question with Yes and No."""
        return bool(slicer.util.confirmYesNoDisplay(question))

    def copy(self, text: str) -> None:
        """Into the system's clipboard."""
        qt.QApplication.clipboard().setText(text)


def data_folder() -> Path:
    """Where models and jobs are kept: in the data that stay on this computer, whatever version of Slicer runs."""
    place = qt.QStandardPaths.writableLocation(qt.QStandardPaths.GenericDataLocation)
    folder = Path(place) / "slicer.org" / "GLMAE"
    move_here(folder, Path(slicer.app.slicerUserSettingsFilePath).parent / "GLMAE")
    return folder
