"""Dice + cross-entropy for scans in which not every class, and not every voxel, is annotated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..scans.classes import IGNORE


def segmentation_loss(logits: Sequence[Tensor], target: Tensor, annotated: Tensor, balance: float = 0.0) -> Tensor:
    """Dice + cross-entropy over the resolutions that the head gives; each coarser one counts half of the one before.

    Args:
        logits: [B, n+1, I, J, K] at full resolution first, then coarser ones.
        target: [B, I, J, K] uint8; 0 background, 1..n classes, `IGNORE` where nothing is known.
        annotated: [B, n] bool; False where a class was not drawn in that sample's scan.
        balance: see `dice_cross_entropy`.

    Returns:
        A scalar.
    """
    total = logits[0].new_zeros((), dtype=torch.float32)
    weight, weights = 1.0, 0.0
    for level in logits:
        level_target = target if level.shape[2:] == target.shape[1:] else _coarser(target, level.shape[2:])
        total = total + weight * dice_cross_entropy(level, level_target, annotated, balance)
        weights += weight
        weight /= 2
    return total / weights


def dice_cross_entropy(logits: Tensor, target: Tensor, annotated: Tensor, balance: float = 0.0) -> Tensor:
    """Cross-entropy plus (1 - soft Dice), both over annotated classes and known voxels only.

    A class that was not annotated in a scan may hide in that scan's background: there its probability is added to the
    background's, so that predicting it is neither rewarded nor punished (marginal loss; Shi et al., arXiv 2007.03868).
    Dice is summed over the batch before it is divided (a class missing in one crop does not matter), and a class
    without any voxel in the batch has no Dice term: cross-entropy alone keeps it down.

    Args:
        logits: [B, n+1, I, J, K].
        target: [B, I, J, K], see `segmentation_loss`.
        annotated: [B, n] bool.
        balance: in the cross-entropy a voxel weighs as (voxels of its class in the batch) ** -balance. At 1 every class
            counts alike, and one of twenty voxels is found at all, but too large; at 0 every voxel counts alike.
    """
    log_probability = F.log_softmax(logits.float(), dim=1)
    known = target != IGNORE  # [B, I, J, K]
    if not bool(annotated.all()):
        log_probability = marginal(log_probability, annotated[:, :, None, None, None])

    index = torch.where(known, target, torch.zeros_like(target)).long()  # [B, I, J, K]
    own = log_probability.gather(1, index[:, None])[:, 0]  # of the voxel's own class
    channels, counted = logits.shape[1], known.float()
    size_truth = _summed(counted, index, channels)  # [B, n+1], as the other sums
    weight = size_truth.sum(dim=0).clamp(min=1)[index] ** -balance * known
    cross_entropy = -(own * weight).sum() / weight.sum().clamp(min=1e-8)

    # Sums are taken as products with `counted`: masks as large as the logits would take most of the loss's time.
    with torch.autocast(logits.device.type, enabled=False):
        size = torch.einsum("bcv,bv->bc", log_probability.exp().flatten(2), counted.flatten(1))
    overlap = _summed(own.exp() * known, index, channels)
    drawn = torch.cat([torch.zeros_like(annotated[:, :1]), annotated], dim=1)
    overlap, size, size_truth = ((part * drawn).sum(dim=0) for part in (overlap, size, size_truth))
    dice = (2 * overlap + 1e-5) / (size + size_truth + 1e-5)
    present = (size_truth > 0).float()
    return cross_entropy + ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def marginal(log_probability: Tensor, annotated: Tensor) -> Tensor:
    """Log probabilities [B, n+1, ...]; the background takes over those of what was not `annotated`, [B, n, ...]."""
    drawn = torch.cat([torch.zeros_like(annotated[:, :1]), annotated], dim=1)
    background = log_probability.masked_fill(drawn, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, log_probability[:, 1:]], dim=1)


def _summed(values: Tensor, index: Tensor, channels: int) -> Tensor:
    """The sums [B, channels] of the values whose class it is; both [B, I, J, K]."""
    first = channels * torch.arange(len(index), device=index.device)
    places = index.flatten(1) + first[:, None]
    sums = values.new_zeros(len(index) * channels).index_add(0, places.flatten(), values.flatten())
    return sums.unflatten(0, (len(index), channels))


def _coarser(target: Tensor, size: Sequence[int]) -> Tensor:
    """[B, I, J, K] at another size: the nearest voxel, or where that is not known, one beside it that is.

    Single labeled slices would be lost to the coarser resolutions otherwise.
    """
    for axis, side in enumerate(size, start=1):
        scale, last = target.shape[axis] / side, target.shape[axis] - 1
        positions = torch.arange(side, device=target.device)
        coarser = target.index_select(axis, ((positions + 0.5) * scale).long())
        for beside in range(math.ceil(scale)):
            other = target.index_select(axis, ((positions * scale).long() + beside).clamp(max=last))
            coarser = torch.where(coarser == IGNORE, other, coarser)
        target = coarser
    return target
