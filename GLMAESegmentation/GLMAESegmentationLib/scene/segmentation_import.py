"""A result file (.seg.nrrd) as a new segmentation node beside its volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from glmae.errors import ScanError
from glmae.scans.segmentation_file import read_segmentation

from .segment_voxels import content_of

# Set on every node made here, so that a result is not taken for a drawn label before the user accepts it.
RESULT_ATTRIBUTE = "GLMAESegmentation.Result"
# What it held then: a result that was changed since is the user's.
CONTENT_ATTRIBUTE = "GLMAESegmentation.Content"
# Set when the user accepted or corrected a result: it is a label now.
ACCEPTED_ATTRIBUTE = "GLMAESegmentation.Accepted"


def import_segmentation(path: Path, volume: Any, name: str | None = None) -> Any:
    """Add the segments of `path` to the volume's scene as a new node, returned; existing nodes are never written to.

    The node stands under the volume's parent transform and at its place in the subject hierarchy (same patient, study
    or folder), has the volume's grid as reference geometry, and is not tied to `path`: saving the scene saves it anew.

    Args:
        path: a `.seg.nrrd` in the local coordinates of `volume`, with names, colors and terminology of its segments.
        volume: the vtkMRMLScalarVolumeNode that was segmented; it must be in a scene.
        name: the node's name, made unique in the scene; "<volume> segmentation (GLMAE)" when None.

    Raises:
        ScanError: `path` is missing, cannot be read or holds no segments. The scene is then unchanged.
    """
    segmentation = _read(path)  # before the scene is touched: a damaged file leaves nothing behind
    scene = volume.GetScene()
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(scene.GenerateUniqueName(name or f"{volume.GetName()} segmentation (GLMAE)"))
    node.SetAttribute(RESULT_ATTRIBUTE, "1")
    node.SetAndObserveSegmentation(segmentation)
    scene.AddNode(node)
    # The transform first: the reference geometry is stored relative to it.
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.CreateDefaultDisplayNodes()
    node.SetAttribute(CONTENT_ATTRIBUTE, content_of(node))
    node.StorableModified()  # so that Slicer offers to save it
    place_beside(node, volume)
    return node


def is_result(segmentation: Any) -> bool:
    """True for a node made by `import_segmentation` that the user has not accepted as a label yet."""
    return segmentation.GetAttribute(RESULT_ATTRIBUTE) == "1"


def accept_result(segmentation: Any) -> None:
    """Make a result a label like one that was drawn: it may be trained on."""
    segmentation.RemoveAttribute(RESULT_ATTRIBUTE)
    segmentation.SetAttribute(ACCEPTED_ATTRIBUTE, "1")


def is_accepted(segmentation: Any) -> bool:
    """True for a result that the user corrected or accepted."""
    return segmentation.GetAttribute(ACCEPTED_ATTRIBUTE) == "1"


def is_corrected(result: Any) -> bool:
    """Whether the content of a result is no longer what was imported. Of older scenes that is not known: False."""
    imported = result.GetAttribute(CONTENT_ATTRIBUTE)
    return bool(imported) and imported != content_of(result)


def _read(path: Path) -> Any:
    """The vtkSegmentation in `path`, read by Slicer's own reader in a scene of its own."""
    if not path.is_file():
        raise ScanError(f"{path} is not there; run the segmentation again.")
    # The engine's check comes first: a damaged file ends the whole application in Slicer's reader (an exception that
    # nothing catches).
    read_segmentation(path)
    scratch = slicer.vtkMRMLScene()
    node = scratch.AddNode(slicer.vtkMRMLSegmentationNode())
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise ScanError(f"{path} could not be read by Slicer; run the segmentation again.")
    return node.GetSegmentation()


def place_beside(node: Any, volume: Any) -> None:
    """Give `node` the volume's parent in the subject hierarchy."""
    hierarchy = volume.GetScene().GetSubjectHierarchyNode()
    if hierarchy is None:
        return
    item = hierarchy.GetItemByDataNode(volume)
    parent = hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()
    own = hierarchy.GetItemByDataNode(node)
    if own:
        hierarchy.SetItemParent(own, parent)
    else:  # Slicer's application makes items by itself; a bare scene does not
        hierarchy.CreateItem(parent, node)
