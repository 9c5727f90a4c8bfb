"""The structures that were drawn in the scans to train on, and in how many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmae.errors import RequestError
from glmae.scans.classes import ClassTable, SegmentClass, merge, plain_name

from ..messages import say
from .scan_table import Scan
from .segment_classes import class_table


@dataclass(frozen=True)
class ClassRow:
    """One structure.

    Attributes:
        name: as it was first written.
        color: red, green, blue, 0-1.
        terminology: what it is, in words; "" where only Slicer's general entry is given.
        ml: its volume in each training scan that has it, mL, by the scan's name; scans that share a name count once.
        missing: names of the training scans without it.
    """

    name: str
    color: tuple[float, float, float] | None
    terminology: str
    ml: Mapping[str, float]
    missing: tuple[str, ...]


def drawn_classes(scans: Sequence[Scan], scene: Any) -> list[ClassRow]:
    """The classes of the scans to train on, as drawn in the scene; none where they are more than a model can hold."""
    try:
        tables = {scan.volume_id: class_table(scene.GetNodeByID(scan.segmentation_id)) for scan in scans}
        return class_overview(scans, tables)
    except RequestError:  # training says so
        return []


def class_overview(scans: Sequence[Scan], tables: Mapping[str, ClassTable]) -> list[ClassRow]:
    """The classes of the scans to train on; `tables` has those of each one's segmentation, by its volume's ID."""
    rows = []
    for entry in merge([tables[scan.volume_id] for scan in scans if scan.volume_id in tables]):
        missing, ml = [], {}
        for scan in scans:
            names = {plain_name(other.name) for other in tables.get(scan.volume_id, ()) if other.matches(entry)}
            count = sum(n for name, n in (scan.voxels or {}).items() if plain_name(name) in names)
            if count or scan.voxels is None:
                ml[scan.name] = count * scan.voxel_ml
            else:
                missing.append(scan.name)
        if ml:
            rows.append(ClassRow(entry.name, entry.color, meaning(entry), ml, tuple(missing)))
    return rows


def meaning(entry: SegmentClass) -> str:
    """The words of a terminology entry: type, modifier, region; "" for Slicer's general "Tissue"."""
    parts = (entry.terminology or "").split("~")
    words = [parts[index].split("^")[2] for index in (2, 3, 5, 6) if index < len(parts) and parts[index].count("^") > 1]
    text = ", ".join(word for word in words if word)
    return "" if text == "Tissue" else text


def partial_sentence(rows: Sequence[ClassRow]) -> str:
    """What partial labels mean here; "" when every class was drawn everywhere."""
    partial = [row for row in rows if row.missing]
    if not partial:
        return ""
    return say("partly labeled", name=partial[0].name, scans=", ".join(partial[0].missing))
