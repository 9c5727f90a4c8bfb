"""A segmentation to draw in, with the right structures, for the Segment Editor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer

from glmae.scans.classes import ClassTable

from ..messages import say
from .scan_table import Scan
from .scene_cases import PARTLY_ATTRIBUTE, is_partly_labeled
from .segment_classes import segment_id_of
from .segmentation_import import place_beside


def segmentation_to_draw(volume: Any, drawn: Any | None, classes: ClassTable) -> Any:
    """The segmentation in which the user goes on with a scan: `drawn`, or a new one.

    Structures of `classes` that it lacks are added as empty segments, with name, color and terminology; what is there
    stays as it is.
    """
    node = _new_segmentation(volume) if drawn is None else drawn
    _add_missing(node, classes.with_colors())
    return node


def state_part(scene: Any, scan: Scan) -> str:
    """Say that only the slices, or the box, that hold labels were looked at, or take it back; what follows from it."""
    segmentation = scene.GetNodeByID(scan.segmentation_id)
    if is_partly_labeled(segmentation):
        segmentation.RemoveAttribute(PARTLY_ATTRIBUTE)
        return say("all counts now", scan=scan.name)
    segmentation.SetAttribute(PARTLY_ATTRIBUTE, "1")
    return say("part counts now", scan=scan.name)


def _new_segmentation(volume: Any) -> Any:
    scene = volume.GetScene()
    name = scene.GenerateUniqueName(f"{volume.GetName()} segmentation")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.CreateDefaultDisplayNodes()
    place_beside(node, volume)
    return node


def _add_missing(node: Any, classes: Iterable[Any]) -> None:
    for entry in classes:
        if segment_id_of(node, entry) is not None:
            continue
        segment = slicer.vtkSegment()
        segment.SetName(entry.name)
        if entry.color is not None:
            segment.SetColor(*entry.color)
        if entry.terminology:
            segment.SetTag(segment.GetTerminologyEntryTagName(), entry.terminology)
        node.GetSegmentation().AddSegment(segment)
