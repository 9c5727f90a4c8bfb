"""Random masking of patches, of an exact share in every view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def masked_count(tokens: int, ratio: float) -> int:
    """How many of `tokens` patches are masked: the nearest to `ratio`, with at least one masked and one visible."""
    if tokens < 2:
        raise ValueError(f"a view of {tokens} patch cannot be masked; it needs at least two")
    return min(max(round(tokens * ratio), 1), tokens - 1)


def random_masks(generators: Sequence[torch.Generator], views: int, tokens: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Draw which patches stay visible, each set of patches with equal probability.

    Args:
        generators: one CPU generator for each of B volumes.
        views: views V of each volume.
        tokens: patches N of a view.
        ratio: share that is masked, 0-1.

    Returns:
        Indices of the visible patches, int64 [B * V, N - M], and of the masked ones, [B * V, M]; both ascending.
    """
    order = torch.cat([torch.rand(views, tokens, generator=generator).argsort(dim=1) for generator in generators])
    visible = tokens - masked_count(tokens, ratio)
    return order[:, :visible].sort(dim=1).values, order[:, visible:].sort(dim=1).values
