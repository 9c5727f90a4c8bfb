"""Results that look doubtful: empty, cut off at the border of the scan, or unlike the training cases in size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.progress import number
from ..scene.segment_voxels import segment_arrays
from ..translation import tr as _

# Beyond this factor from the median volume of the training cases a structure is called unlike them.
UNLIKE = 4.0
# A structure counts as cut off when this share of the scan's outer layer of voxels around it belongs to it.
CUT_OFF_VOXELS = 25


@dataclass(frozen=True)
class FoundStructure:
    """One segment of a result.

    Attributes:
        name: of the segment.
        volume: mm3.
        border_voxels: its voxels on the outermost layer of the scan's grid.
    """

    name: str
    volume: float
    border_voxels: int


def doubts(found: Iterable[FoundStructure], training_volumes: Mapping[str, float]) -> list[str]:
    """What is doubtful about a result, a sentence each.

    Args:
        found: its segments.
        training_volumes: median volume in mm3 of each class in the training cases, by name.
    """
    found = list(found)
    if all(structure.volume == 0 for structure in found):
        return [_("Nothing was found.")]
    sentences = []
    for structure in found:
        usual = training_volumes.get(structure.name)
        if structure.volume == 0:
            sentences.append(_("{name} was not found.").format(name=structure.name))
            continue
        if structure.border_voxels >= CUT_OFF_VOXELS:
            sentences.append(_("{name} is cut off at the border of the scan.").format(name=structure.name))
        if usual and structure.volume > UNLIKE * usual:
            sentences.append(_("{name} is much larger than in the training scans.").format(name=structure.name))
        elif usual and structure.volume * UNLIKE < usual:
            sentences.append(_("{name} is much smaller than in the training scans.").format(name=structure.name))
    return sentences


def training_volumes(card: Mapping[str, Any]) -> dict[str, float]:
    """Median volumes of the classes (mm3) from a model.json; what it does not say is left out."""
    fingerprint = card.get("fingerprint")
    classes = fingerprint.get("classes") if isinstance(fingerprint, Mapping) else None
    volumes = {}
    for entry in classes if isinstance(classes, Sequence) else ():
        volume = number(entry.get("volume")) if isinstance(entry, Mapping) else None
        if volume:
            volumes[str(entry.get("name"))] = volume
    return volumes


def found_structures(segmentation: Any, volume: Any) -> list[FoundStructure]:
    """The segments of a result node made of `volume`, measured."""
    size = volume.GetImageData().GetDimensions()
    voxel = float(np.prod(volume.GetSpacing()))
    structures = []
    for segment in segment_arrays(segmentation):
        mask, first = segment.mask, segment.first
        inside = int(np.count_nonzero(mask))
        border = 0
        for axis in range(3):  # the arrays are [K, J, I]
            sides = ((0, 0), (-1, size[2 - axis] - 1))
            length = mask.shape[axis]
            for index, place in sides:
                at = (0 if index == 0 else length - 1) + first[axis]
                if length and at == place:
                    border += int(np.count_nonzero(np.take(mask, index, axis=axis)))
        structures.append(FoundStructure(segment.name, inside * voxel, border))
    return structures
