"""The part of a scan in which the label was drawn; outside of it nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..json_record import FORMER_NAMES
from .geometry import Box

_AXES = "ijk"
LABELED = "labeled"


@dataclass(frozen=True)
class Region:
    """One of: some slices, a box, a mask file, or what holds labels. Indices count the image's voxels along I, J, K.

    Attributes:
        axis: 0, 1 or 2 for slices along I, J or K.
        slices: indices of the labeled slices along `axis`.
        box: first and one past the last voxel along I, J, K.
        mask: an image that is not zero where the label was drawn.
        labeled: the slices, or the box, in which labels lie, as `annotated_part` finds them.
    """

    axis: int | None = None
    slices: tuple[int, ...] = ()
    box: Box | None = None
    mask: Path | None = None
    labeled: bool = False

    @staticmethod
    def from_json(content: Any, case: str, folder: Path) -> Region:
        """From the entry of `region` in a class file that lies in `folder`.

        Raises:
            ValueError: with the reason, in words.
        """
        if isinstance(content, str) and FORMER_NAMES.get(content, content) == LABELED:
            return Region(labeled=True)
        if not isinstance(content, dict) or len(content) != 1 or next(iter(content)) not in ("slices", "box", "mask"):
            raise ValueError(f'`region` of {case!r} is not one of slices, box, mask and "labeled"')
        kind, entry = next(iter(content.items()))
        if kind == "mask":
            if not isinstance(entry, str) or not entry:
                raise ValueError(f"the mask in `region` of {case!r} is not a file name")
            return Region(mask=folder / entry)
        if kind == "box":
            if not isinstance(entry, list) or len(entry) != 3 or not all(_indices(pair, 2) for pair in entry):
                raise ValueError(f"the box in `region` of {case!r} is not [[i0, i1], [j0, j1], [k0, k1]]")
            if any(low >= high for low, high in entry):
                raise ValueError(f"the box in `region` of {case!r} is empty")
            return Region(box=tuple((low, high) for low, high in entry))
        if not isinstance(entry, dict) or str(entry.get("axis")).lower() not in tuple(_AXES):
            raise ValueError(f"the slices in `region` of {case!r} have no axis i, j or k")
        if not _indices(entry.get("indices")):
            raise ValueError(f"the slices in `region` of {case!r} have no list of indices")
        return Region(axis=_AXES.index(str(entry["axis"]).lower()), slices=tuple(entry["indices"]))

    def to_json(self) -> dict[str, Any] | str:
        """The entry of `region` in a class file that says this; a mask by its full path."""
        if self.labeled:
            return LABELED
        if self.mask is not None:
            return {"mask": str(self.mask)}
        if self.box is not None:
            return {"box": [list(pair) for pair in self.box]}
        assert self.axis is not None
        return {"slices": {"axis": _AXES[self.axis], "indices": list(self.slices)}}


def _indices(content: Any, length: int | None = None) -> bool:
    if not isinstance(content, list) or not content or (length is not None and len(content) != length):
        return False
    return all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in content)
