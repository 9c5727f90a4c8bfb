"""What kind of image a volume is, as far as its DICOM data, its values and its name tell: CT or MR, T1 or T2, a map."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

# Values below this are Hounsfield units of air: no other modality has them.
_AIR = -500
# Sequences, and images computed of others, as they stand in series descriptions.
_SERIES = {
    *("t1", "t2", "flair", "dwi", "adc", "swi", "dce", "bold", "dixon", "water", "fat", "inphase", "outphase"),
    *("mip", "mpr", "sub", "subtraction", "trace", "phase", "fieldmap", "perfusion", "cbf", "cbv", "mtt", "suv", "pet"),
    *("localizer", "scout", "survey"),
}


@dataclass(frozen=True)
class ScanKind:
    """One kind of image.

    Attributes:
        modality: "CT", "MR" and so on, as in DICOM; "" when unknown.
        series: words of its name that tell its sequence or what it was computed of.
    """

    modality: str
    series: frozenset[str]


def scan_kind(volume: Any) -> ScanKind:
    """The kind of a volume node."""
    words = re.findall(r"[a-z]+\d*", (volume.GetName() or "").casefold().replace("_", " "))
    plain = {re.sub(r"^(t[12])[a-z]+$", r"\1", word) for word in words}  # T1w, T2tse
    return ScanKind(_modality(volume), frozenset(plain & _SERIES))


def is_alike(kind: ScanKind, others: Collection[ScanKind]) -> bool:
    """Whether a kind may be one of `others`; what is not known speaks neither for nor against it."""
    return not others or any(
        (not kind.modality or not other.modality or kind.modality == other.modality)
        and (not kind.series or kind.series == other.series)
        for other in others
    )


def _modality(volume: Any) -> str:
    hierarchy = volume.GetScene().GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    said = hierarchy.GetItemAttribute(item, "DICOM.Modality") if item else ""
    if said:
        return str(said).upper()
    return "CT" if volume.GetImageData().GetScalarRange()[0] <= _AIR else ""
