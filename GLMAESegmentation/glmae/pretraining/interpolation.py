"""Cutting views on the CPU: trilinear interpolation on an upright box is three small matrix products, one an axis."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_one_by_one(regions: Tensor, boxes: Tensor, jitter: Tensor, side: int) -> Tensor:
    """The same as `views.cut_views`, four times as fast on a CPU as its general sampling.

    Args:
        regions: [B, C, I, J, K].
        boxes: first corner and extent in voxels, [B, V, 2, 3]; corner 0 is the outer face of voxel 0.
        jitter: factor and offset of the intensities, [B, V, 2].
        side: voxels of a view along each axis.

    Returns:
        float32 [B, V, C, side, side, side].
    """
    corner, extent = boxes[..., None].unbind(dim=2)  # [B, V, 3, 1]
    places = corner + extent * ((torch.arange(side) + 0.5) / side) - 0.5  # [B, V, 3, side], voxels
    sides = torch.tensor(regions.shape[2:])
    places = torch.minimum(places.clamp(min=0), (sides - 1)[:, None])
    first = places[..., 0].long().tolist()
    last = (torch.minimum(places[..., -1].long() + 1, sides - 1)).tolist()
    views = torch.empty(*boxes.shape[:2], regions.shape[1], side, side, side)
    for volume, region in enumerate(regions):
        for view, place in enumerate(places[volume]):
            reach = [range(low, high + 1) for low, high in zip(first[volume][view], last[volume][view], strict=True)]
            along = [_weights(axis, where) for axis, where in zip(place, reach, strict=True)]  # [side, voxels] each
            cut = region[(slice(None), *(slice(where.start, where.stop) for where in reach))].float()  # [C, i, j, k]
            cut = along[1] @ (cut @ along[2].T)  # [C, i, side, side]
            views[volume, view] = (along[0] @ cut.flatten(2)).unflatten(2, (side, side))
    factor, offset = jitter[:, :, :, None, None, None, None].unbind(dim=2)
    return views.mul_(factor).add_(offset)


def _weights(places: Tensor, voxels: range) -> Tensor:
    """Linear interpolation at `places` [n] between `voxels`, [n, voxels]."""
    distance = places[:, None] - torch.arange(voxels.start, voxels.stop)
    return (1 - distance.abs()).clamp(min=0)
