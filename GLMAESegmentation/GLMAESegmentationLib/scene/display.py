"""What the views show: one scan with its own segmentation, in slices and on request as surfaces."""

from __future__ import annotations

from typing import Any

import slicer

from .scene_cases import PREVIEW_ATTRIBUTE


def show_alone(segmentation: Any | None, scene: Any) -> None:
    """Show one segmentation, or none, and hide all others: scans often lie at the same place of the world."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene):
        if node is not segmentation and not node.GetAttribute(PREVIEW_ATTRIBUTE):
            node.SetDisplayVisibility(False)
    if segmentation is not None:
        if segmentation.GetDisplayNode() is None:
            segmentation.CreateDefaultDisplayNodes()
        segmentation.SetDisplayVisibility(True)


def center_of(segmentation: Any) -> tuple[float, float, float] | None:
    """The center of what a segmentation holds, RAS mm in the world; None when it holds nothing."""
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    if bounds[0] >= bounds[1]:
        return None
    right, anterior, superior = ((bounds[axis] + bounds[axis + 1]) / 2 for axis in (0, 2, 4))
    return right, anterior, superior


def toggle_surfaces(segmentation: Any) -> bool:
    """Show the surfaces of a segmentation in 3D, or hide them; whether they are shown now."""
    surfaces = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if segmentation.GetDisplayNode() is None:
        segmentation.CreateDefaultDisplayNodes()
    display = segmentation.GetDisplayNode()
    shown = segmentation.GetSegmentation().ContainsRepresentation(surfaces) and display.GetVisibility3D()
    if not shown:
        segmentation.CreateClosedSurfaceRepresentation()
    display.SetVisibility3D(not shown)
    return not shown
