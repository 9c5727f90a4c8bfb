"""A markups ROI as a box of voxels of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from .local_frame import volume_matrix

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def put_around(roi: Any, volume: Any) -> None:
    """Give a markups ROI the center and size of a volume, in the world."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    low, high = bounds[::2], bounds[1::2]
    roi.SetCenterWorld([(a + b) / 2 for a, b in zip(low, high, strict=True)])
    roi.SetSizeWorld([b - a for a, b in zip(low, high, strict=True)])


def region_box(roi: Any, volume: Any) -> Box | None:
    """The smallest box of voxels around the part of `volume` that lies in `roi`.

    The ROI may be turned against the volume and both may have parent transforms; then the box holds all eight corners.

    Returns:
        First and one past the last index along I, J, K; None when the two do not overlap.
    """
    half = np.array(roi.GetSize()) / 2
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T * half
    to_world = roi.GetObjectToWorldMatrix()
    world = vtk.vtkGeneralTransform()
    parent = volume.GetParentTransformNode()
    if parent is not None:
        parent.GetTransformFromWorld(world)
    indices = []
    for corner in corners:
        point = world.TransformPoint(to_world.MultiplyPoint([*corner, 1.0])[:3])
        indices.append((np.linalg.inv(volume_matrix(volume)) @ [*point, 1.0])[:3])
    low = np.ceil(np.min(indices, axis=0) - 1e-6).astype(int)
    high = np.floor(np.max(indices, axis=0) + 1e-6).astype(int) + 1
    extent = np.array(volume.GetImageData().GetExtent()).reshape(3, 2)
    low, high = np.maximum(low, extent[:, 0]), np.minimum(high, extent[:, 1] + 1)
    if (high - low < 2).any():  # one slice is no volume
        return None
    box = tuple((int(a), int(b)) for a, b in zip(low, high, strict=True))
    return box[0], box[1], box[2]
