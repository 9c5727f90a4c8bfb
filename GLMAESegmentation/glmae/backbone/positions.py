"""Fixed 3D sine-cosine positions of tokens, for any grid and any patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Wavelengths run from 2 pi to 2 pi x 30 tokens (our choice). With the 10,000 of arXiv 1706.03762, meant for long texts,
# two thirds of the entries hardly change within a scan, and reconstruction is learned later.
LONGEST = 30.0


def sine_cosine_positions(width: int, grid: Sequence[int], patch_size: Sequence[int]) -> Tensor:
    """The position table of a grid of tokens, with a row of zeros for CLS in front.

    A position is the center of the patch, counted in the longest side of the patch, so that patches of 8 x 8 x 4 and
    8 x 8 x 8 voxels agree on where a voxel is. With cubic patches it is the index of the token. Of the `width` entries
    each axis gets width // 6 sines, then as many cosines, in the order I, J, K; the rest is zero.

    Args:
        grid: tokens along I, J, K.
        patch_size: voxels of a patch along I, J, K.

    Returns:
        float32 [1, 1 + tokens, width]; tokens in row-major order, K fastest.
    """
    frequencies = width // 6
    if frequencies < 1:
        raise ValueError(f"width {width} is too small for 3D positions; it must be at least 6")
    omega = LONGEST ** (-torch.arange(frequencies, dtype=torch.float64) / frequencies)
    unit = max(patch_size)
    axes = []
    for axis, (tokens, side) in enumerate(zip(grid, patch_size, strict=True)):
        centers = (torch.arange(tokens, dtype=torch.float64) + 0.5) * (side / unit) - 0.5
        angles = centers[:, None] * omega  # [tokens, frequencies]
        shape = [1, 1, 1, 2 * frequencies]
        shape[axis] = tokens
        axes.append(torch.cat([angles.sin(), angles.cos()], dim=1).reshape(shape).expand(*grid, -1))
    table = torch.cat(axes, dim=3).reshape(-1, 6 * frequencies)  # [tokens, 6 * frequencies]
    return F.pad(table, (0, width - 6 * frequencies, 1, 0)).float()[None]


def interpolate_positions(table: Tensor, grid: Sequence[int], to_grid: Sequence[int]) -> Tensor:
    """A learned or foreign position table, resized trilinearly to another grid; the CLS row is kept.

    Args:
        table: [1, 1 + tokens, width] for `grid`.
        grid: tokens along I, J, K of `table`.
        to_grid: tokens along I, J, K wanted.

    Returns:
        [1, 1 + tokens of `to_grid`, width].
    """
    if tuple(grid) == tuple(to_grid):
        return table
    volume = table[:, 1:].transpose(1, 2).reshape(1, -1, *grid)  # [1, width, I, J, K]
    resized = F.interpolate(volume, size=tuple(to_grid), mode="trilinear", align_corners=False)
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
