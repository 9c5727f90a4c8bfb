"""The part of a scan in which the label was drawn; outside of it nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from .geometry import Box, Geometry, slices
from .image import load
from .resampling import resample

_AXES = "ijk"
LABELLED = "labelled"


@dataclass(frozen=True)
class Region:
    """One of: some slices, a box, a mask file, or what holds labels. Indices count the image's voxels along I, J, K.

    Attributes:
        axis: 0, 1 or 2 for slices along I, J or K.
        slices: indices of the labeled slices along `axis`.
        box: first and one past the last voxel along I, J, K.
        mask: an image that is not zero where the label was drawn.
        labelled: the slices, or the box, in which labels lie, as `annotated_part` finds them.
    """

    axis: int | None = None
    slices: tuple[int, ...] = ()
    box: Box | None = None
    mask: Path | None = None
    labelled: bool = False

    @staticmethod
    def from_json(content: Any, case: str, folder: Path) -> Region:
        """From the entry of `region` in a class file that lies in `folder`.

        Raises:
            ValueError: with the reason, in words.
        """
        if content == LABELLED:
            return Region(labelled=True)
        if not isinstance(content, dict) or len(content) != 1 or next(iter(content)) not in ("slices", "box", "mask"):
            raise ValueError(f'`region` of {case!r} is not one of slices, box, mask and "labelled"')
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
        if self.labelled:
            return LABELLED
        if self.mask is not None:
            return {"mask": str(self.mask)}
        if self.box is not None:
            return {"box": [list(pair) for pair in self.box]}
        assert self.axis is not None
        return {"slices": {"axis": _AXES[self.axis], "indices": list(self.slices)}}

    def known(self, case: str, reference: Geometry) -> np.ndarray:
        """Where the label was drawn, on the grid of the image: bool [K, J, I]. Not for `labelled`: that needs it.

        Raises:
            ScanError: the region lies outside the image, or the mask cannot be used.
        """
        if self.mask is not None:
            return self._mask(case, reference)
        known = np.zeros(tuple(reversed(reference.size)), dtype=bool)
        if self.axis is not None:
            size = reference.size[self.axis]
            beyond = [index for index in self.slices if index >= size]
            if beyond:
                raise ScanError(
                    f"case {case}: `region` names slice {beyond[0]}, but the image has {size}; correct classes.json."
                )
            np.moveaxis(known, 2 - self.axis, 0)[list(self.slices)] = True
        elif self.box is not None:
            for (_, high), size in zip(self.box, reference.size, strict=True):
                if high > size:
                    raise ScanError(
                        f"case {case}: the box of `region` ends at {high}, but the image has {size} voxels there; "
                        "correct classes.json."
                    )
            known[slices(self.box[::-1])] = True
        return known

    def _mask(self, case: str, reference: Geometry) -> np.ndarray:
        assert self.mask is not None
        image = load(self.mask)
        if image.GetNumberOfComponentsPerPixel() != 1:
            raise ScanError(f"{self.mask} (region of case {case}) has several values a voxel; give a plain mask.")
        here = Geometry.of(image)
        if not here.same_grid(reference):
            if here.distance(reference) > max(*here.spacing, *reference.spacing):
                raise ScanError(
                    f"{self.mask} ({here.describe()}) does not lie where the image of case {case} does "
                    f"({reference.describe()}); draw the mask on that image."
                )
            image = resample(image, reference, sitk.sitkNearestNeighbor)
        return np.asarray(sitk.GetArrayViewFromImage(image)) != 0


def _indices(content: Any, length: int | None = None) -> bool:
    if not isinstance(content, list) or not content or (length is not None and len(content) != length):
        return False
    return all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in content)
