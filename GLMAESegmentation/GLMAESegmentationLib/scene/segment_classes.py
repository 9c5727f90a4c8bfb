"""Segments of a node as the engine's classes. They are matched by name and terminology, never by their order."""

from __future__ import annotations

from typing import Any

import vtk

from glmae.scans.classes import ClassTable, SegmentClass

from .segment_voxels import segments


def class_table(segmentation: Any) -> ClassTable:
    """The classes of a segmentation node with values 1..n in the order of its segments, empty segments included."""
    found = enumerate(segments(segmentation).values(), start=1)
    return ClassTable(tuple(segment_class(segment, value) for value, segment in found))


def segment_class(segment: Any, value: int) -> SegmentClass:
    """A vtkSegment's name, color (RGB, 0-1) and terminology under the label value `value`."""
    return SegmentClass(
        value=value,
        name=segment.GetName() or "",
        color=tuple(segment.GetColor()),
        terminology=terminology_of(segment) or None,
    )


def terminology_of(segment: Any) -> str:
    """The segment's terminology entry as Slicer serializes it; "" when it has none."""
    entry = vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), entry)
    return str(entry)


def segment_id_of(segmentation: Any, wanted: SegmentClass) -> str | None:
    """The ID of the segment that stands for the class `wanted`; None when the node has no such segment."""
    found = segments(segmentation).items()
    return next((identifier for identifier, segment in found if segment_class(segment, 1).matches(wanted)), None)
