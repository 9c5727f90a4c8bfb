"""How large the structures of each scan are, and how well results agree with labels: as a table node, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from glmae.scans.classes import plain_name

from .local_frame import volume_matrix
from .scan_table import Scan
from .segment_voxels import segments

COLUMNS = ("Scan", "Structure", "Label (mL)", "Result (mL)", "Dice")


@dataclass(frozen=True)
class VolumeRow:
    """One structure of one scan: its volume in the label and in the newest result, mL, and the Dice of the two.

    None where one of them is missing; the Dice also where both are empty.
    """

    scan: str
    structure: str
    label_ml: float | None
    result_ml: float | None
    dice: float | None

    @property
    def texts(self) -> tuple[str, ...]:
        """As in `COLUMNS`; what is not known is empty."""
        numbers = (self.label_ml, self.result_ml, self.dice)
        return self.scan, self.structure, *("" if value is None else f"{value:.4g}" for value in numbers)


def volume_rows(scans: Sequence[Scan], scene: Any) -> list[VolumeRow]:
    """Every structure of every scan that has a label or a result, on the grid of its volume."""
    rows = []
    for scan in scans:
        volume = scene.GetNodeByID(scan.volume_id)
        if volume is None:
            continue
        label, result = (_masks(scene.GetNodeByID(node), volume) for node in (scan.segmentation_id, scan.result_id))
        ml = abs(float(np.linalg.det(volume_matrix(volume)[:3, :3]))) / 1000
        for name in dict.fromkeys((*label, *result)):
            drawn, found = label.get(name), result.get(name)
            rows.append(
                VolumeRow(
                    scan.name,
                    (drawn or found or (name,))[0],
                    None if drawn is None else ml * int(drawn[1].sum()),
                    None if found is None else ml * int(found[1].sum()),
                    None if drawn is None or found is None else _dice(drawn[1], found[1]),
                )
            )
    return rows


def add_table(rows: Sequence[VolumeRow], scene: Any, name: str) -> Any:
    """The rows as a new vtkMRMLTableNode."""
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    columns = [node.AddColumn() for _column in COLUMNS]
    for column, title in zip(columns, COLUMNS, strict=True):
        column.SetName(title)
    for row in rows:
        node.AddEmptyRow()
        for number, text in enumerate(row.texts):
            node.SetCellText(node.GetNumberOfRows() - 1, number, text)
    return node


def as_csv(rows: Sequence[VolumeRow]) -> str:
    """The rows as CSV with a header, to paste into a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(row.texts for row in rows)])
    return text.getvalue()


def _masks(segmentation: Any | None, volume: Any) -> dict[str, tuple[str, np.ndarray]]:
    """Name and voxels [K, J, I] of each structure on the volume's grid, by its plain name."""
    if segmentation is None:
        return {}
    found = {}
    for identifier, segment in segments(segmentation).items():
        name = segment.GetName() or ""
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, volume)
        found[plain_name(name)] = (name, np.zeros(0, bool) if voxels is None else voxels > 0)
    return found


def _dice(one: np.ndarray, other: np.ndarray) -> float | None:
    total = int(one.sum()) + int(other.sum())
    if not total:
        return None
    return 2 * int((one & other).sum()) / total if one.shape == other.shape else 0.0
