"""Class probabilities of a whole prepared scan, from its maps, in slabs along the last axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..backend_cpu import channels_last
from ..devices import autocast
from .network import ScanMaps, SegmentationNetwork

# What a slab may take, and its thickness in tokens; a head sees so many tokens along the other axes at a time.
SLAB_BYTES, SLAB_TOKENS, BLOCK_TOKENS = 400_000_000, 8, 12
# Probabilities of so many voxels and classes are worked on together.
CACHED = 64_000


class Prior(Protocol):
    """What weighs the probabilities of a scan: `location_prior.LocationFactors`, `atlas_fusion.MovedAtlases`."""

    def weigh(self, sums: Tensor, weights: Tensor, planes: slice) -> Tensor:
        """Weigh what a network gives for some planes of the scan, in place.

        Args:
            sums: [n+1, I, J, planes], any multiple of the probabilities, background first; changed.
            weights: [I, J, planes], the sum of `sums` over the classes.
            planes: which, along K.

        Returns:
            The sum over the classes as it is now, [I, J, planes]; `weights` itself if nothing changed.
        """


@dataclass(frozen=True)
class Slab:
    """Planes of the scan.

    Attributes:
        start: first plane, along K.
        sums: [n+1, I, J, planes] float16, `weights` times the probabilities; background first. Half precision keeps
            three digits, and has half the memory to move.
        weights: [I, J, planes] float32.
    """

    start: int
    sums: Tensor
    weights: Tensor

    @property
    def end(self) -> int:
        """One past the last plane."""
        return self.start + self.sums.shape[-1]

    @torch.inference_mode()
    def winners(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of the most probable class, uint8, and its probability, float16; both [I, J, planes]."""
        # Half-precision numbers that are not negative are in the order of their bits; with the class behind them one
        # maximum finds both, and of equal ones the first class.
        bits = self.sums.view(torch.int16)
        classes = torch.arange(255, 255 - len(bits), -1, dtype=torch.int32, device=bits.device)
        numbers = torch.empty(bits.shape[1:], dtype=torch.uint8, device=bits.device)
        largest = torch.empty(bits.shape[1:], dtype=torch.float16, device=bits.device)
        thickness = len(numbers) if bits.device.type != "cpu" else max(1, CACHED // max(1, bits[:, 0].numel()))
        for start in range(0, len(numbers), thickness):
            rows = slice(start, start + thickness)
            highest = bits[:, rows].int().mul_(256).add_(classes.view(-1, 1, 1, 1)).amax(dim=0)
            numbers[rows] = 255 - (highest & 255)
            largest[rows] = highest.bitwise_right_shift_(8).short().view(torch.float16) / self.weights[rows]
        return np.asarray(numbers.cpu().numpy()), np.asarray(largest.cpu().numpy())

    @torch.inference_mode()
    def probabilities(self) -> np.ndarray:
        """[n+1, I, J, planes] float16, of sum 1 over the classes."""
        found = torch.empty(self.sums.shape, dtype=torch.float16)
        for part, sums in zip(found, self.sums, strict=True):
            part.copy_(sums / self.weights)
        return np.asarray(found.numpy())


@torch.inference_mode()
def class_slabs(
    network: SegmentationNetwork,
    maps: ScanMaps,
    device: torch.device,
    priors: Sequence[Prior] = (),
    on_block: Callable[[], None] | None = None,
) -> Iterator[Slab]:
    """Classify the maps of a scan.

    Args:
        priors: what else is known of the classes, by which the probabilities are weighed, one after the other.
        on_block: called now and then; may raise to stop.

    Yields:
        Slabs that follow each other from the first plane to the last.
    """
    classifier = channels_last(network.eval(), device)
    tokens = [level // unit for level, unit in zip(_size(maps), maps.token, strict=True)]
    classes: int | None = None
    thickness = SLAB_TOKENS
    at = 0
    while at < tokens[2]:
        sums: Tensor | None = None
        end = min(tokens[2], at + thickness)
        # Of the scan itself, not of what was added around it.
        planes = [min(max(0, edge * maps.token[2] - maps.before[2]), maps.shape[2]) for edge in (at, end)]
        if planes[0] < planes[1]:
            for i in range(0, tokens[0], BLOCK_TOKENS):
                for j in range(0, tokens[1], BLOCK_TOKENS):
                    if on_block is not None:
                        on_block()
                    block = [(i, min(tokens[0], i + BLOCK_TOKENS)), (j, min(tokens[1], j + BLOCK_TOKENS)), (at, end)]
                    logits = _logits(classifier, maps, block, tokens, device)
                    if sums is None:
                        classes = len(logits)
                        size = (classes, *maps.shape[:2], planes[1] - planes[0])
                        fits = device.type == "cpu" or 2 * math.prod(size) <= SLAB_BYTES
                        sums = torch.empty(size, dtype=torch.float16, device=device if fits else "cpu")
                    _place(sums, logits, maps, block, planes[0])
            assert sums is not None
            weights = torch.ones(sums.shape[1:], dtype=torch.float32, device=sums.device)
            for prior in priors:
                weights = prior.weigh(sums, weights, slice(*planes))
            yield Slab(planes[0], sums, weights)
        if classes is not None:
            plane_bytes = 2 * classes * maps.shape[0] * maps.shape[1] * maps.token[2]
            thickness = max(1, min(SLAB_TOKENS, SLAB_BYTES // plane_bytes))
        at = end


def class_numbers(network: SegmentationNetwork, maps: ScanMaps, device: torch.device) -> np.ndarray:
    """The most probable class of each voxel, [I, J, K] uint8."""
    return np.concatenate([slab.winners()[0] for slab in class_slabs(network, maps, device)], axis=-1)


def _size(maps: ScanMaps) -> list[int]:
    """Voxels along I, J, K of the scan and of what was added around it."""
    return [side * stride for side, stride in zip(maps.levels[0].shape[1:], maps.strides[0], strict=True)]


def _logits(
    classifier: Any,
    maps: ScanMaps,
    block: Sequence[tuple[int, int]],
    tokens: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Logits [n+1, I, J, K] float32 of a block of tokens; a token around it is looked at, for interpolation."""
    reach = [(max(0, low - 1), min(most, high + 1)) for (low, high), most in zip(block, tokens, strict=True)]
    parts = []
    for level, stride in zip(maps.levels, maps.strides, strict=True):
        per_token = [unit // side for unit, side in zip(maps.token, stride, strict=True)]
        box = tuple(slice(low * n, high * n) for (low, high), n in zip(reach, per_token, strict=True))
        parts.append(level[(slice(None), *box)][None].to(device).float())
    with autocast(device):
        logits = classifier.logits(parts)[0][0].float()
    inner = [
        slice((low - start) * unit, (high - start) * unit)
        for (low, high), (start, _), unit in zip(block, reach, maps.token, strict=True)
    ]
    return logits[(slice(None), *inner)]


def _place(sums: Tensor, logits: Tensor, maps: ScanMaps, block: Sequence[tuple[int, int]], first_plane: int) -> None:
    """Write the probabilities of a block where it lies in the scan."""
    own, there = [], []
    for axis, (low, high) in enumerate(block):
        start = low * maps.token[axis] - maps.before[axis]
        begin, end = max(0, start), min(high * maps.token[axis] - maps.before[axis], maps.shape[axis])
        own.append(slice(begin - start, max(begin, end) - start))
        shift = first_plane if axis == 2 else 0
        there.append(slice(begin - shift, max(begin, end) - shift))
    sums[(slice(None), *there)] = logits[(slice(None), *own)].softmax(dim=0).half()
