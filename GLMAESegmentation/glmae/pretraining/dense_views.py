"""Pairs of views for the dense consistency: the same anatomy turned, magnified and pictured differently.

What is random at a step is a function of (seed, step, volume), as for the other views. The pairs are made on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..scans.rotation import rotation

# All our choice. Angles about each axis in radians, and the range of log magnification, of the wide and the close view.
TURNS, MAGNIFICATIONS = (0.2, 0.35), ((-0.1, 0.4), (-0.4, 0.2))
STRETCH = 0.1
# The close view lies up to this share of a view's side beside the middle of the wide one.
SHIFT = 0.3
# Places so many voxels from a view's edge are used, those in air only now and then.
EDGE, AIR, CANDIDATES = 2, 0.05, 6
TRIES, LEAST_DEVIATION = 10, 0.15
# Of a scan that exists in two appearances, both are seen in this share of the pairs, and of the volumes by student and
# teacher.
TWO_APPEARANCES = 0.7
CONTRAST, BRIGHTNESS, NOISE, CURVE_PIECES = 0.3, 0.3, 0.2, 6


@dataclass(frozen=True)
class DensePairs:
    """Two views of each of B volumes, and places that both show.

    Attributes:
        views: the wide and the close one, float32 [B, 2, C, S, S, S].
        places: the same n places in each, in the coordinates of `grid_sample` (-1 to 1; K, J, I), [B, 2, n, 3].
    """

    views: Tensor
    places: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> DensePairs:
        """The same elsewhere."""
        return DensePairs(move(self.views), move(self.places))


def dense_pair(
    appearances: tuple[np.ndarray, np.ndarray] | None, image: np.ndarray, side: int, places: int, seed: list[int]
) -> tuple[Tensor, Tensor]:
    """One volume's pair.

    Args:
        appearances: the scan pictured in two ways, if it is, [C, I, J, K] each.
        image: the scan, [C, I, J, K], normalised.
        side: voxels of a view along each axis, S.
        places: how many, n.
        seed: of everything random.

    Returns:
        Views [2, C, S, S, S] and places [2, n, 3], see `DensePairs`.
    """
    random = np.random.default_rng(seed)
    first, second = image, image
    if appearances is not None and random.random() < TWO_APPEARANCES:
        first, second = appearances[:: 1 if random.random() < 0.5 else -1]
    shape = np.array(first.shape[1:], dtype=float)
    middle = _middle(first, shape, side, random)
    beside = middle + random.uniform(-SHIFT, SHIFT, 3) * side * np.minimum(1, shape / side)
    wide, matrix, _ = _view(first, middle, side, random, TURNS[0], MAGNIFICATIONS[0])
    close, _, source = _view(second, beside, side, random, TURNS[1], MAGNIFICATIONS[1])

    drawn = torch.from_numpy(random.integers(EDGE, side - EDGE, (CANDIDATES * places, 3)))
    there = source[drawn[:, 0], drawn[:, 1], drawn[:, 2]]  # voxels of the scan, [m, 3]
    inverse = torch.from_numpy(np.linalg.inv(matrix).T).float()
    in_wide = (there - torch.from_numpy(middle).float()) @ inverse + (side - 1) / 2
    last = torch.from_numpy(shape).float() - 1
    inside = ((in_wide >= EDGE) & (in_wide <= side - 1 - EDGE)).all(dim=1) & ((there >= 0) & (there <= last)).all(dim=1)
    values = close[0][drawn[:, 0], drawn[:, 1], drawn[:, 2]]
    air = (values <= float(close[0].min()) + AIR) & torch.from_numpy(random.random(len(drawn)) < 0.9)
    for usable in (inside & ~air, inside, torch.ones_like(inside)):
        chosen = torch.nonzero(usable)[:, 0]
        if len(chosen):
            break
    chosen = chosen[torch.arange(places) % len(chosen)]
    both = torch.stack([in_wide[chosen], drawn[chosen].float()])  # [2, n, 3]
    views = torch.stack([_pictured(wide, random), _pictured(close, random)])
    return views, ((2 * both + 1) / side - 1).flip(-1)


def _middle(image: np.ndarray, shape: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """A place around which the scan varies."""
    reach = 0.35 * side
    for _ in range(TRIES):
        middle = random.uniform(np.minimum(reach, shape / 2), np.maximum(shape - reach, shape / 2))
        box = tuple(slice(max(0, int(m - side / 3)), int(m + side / 3) + 1) for m in middle)
        if float(np.std(image[0][box], dtype=np.float64)) > LEAST_DEVIATION:
            break
    return np.asarray(middle)


def _view(
    image: np.ndarray,
    middle: np.ndarray,
    side: int,
    random: np.random.Generator,
    turn: float,
    magnification: tuple[float, float],
) -> tuple[Tensor, np.ndarray, Tensor]:
    """A view [C, S, S, S], its matrix from its voxels to the scan's, and where each voxel comes from."""
    zoom = math.exp(random.uniform(*magnification)) * np.exp(random.uniform(-STRETCH, STRETCH, 3))
    matrix = rotation(random.uniform(-turn, turn, 3)) @ np.diag(zoom)
    axis = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    source = grid @ torch.from_numpy(matrix.T).float() + torch.from_numpy(middle).float()  # [S, S, S, 3]
    shape = torch.tensor(image.shape[1:])
    corners = source[:: side - 1, :: side - 1, :: side - 1]  # those of an affine map hold its extremes
    low = torch.minimum(corners.amin(dim=(0, 1, 2)).floor().long().clamp(min=0), shape - 1)
    high = torch.maximum(torch.minimum(corners.amax(dim=(0, 1, 2)).ceil().long() + 2, shape), low + 1)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = torch.from_numpy(np.asarray(image[(slice(None), *box)], dtype=np.float32))
    places = ((2 * (source - low) + 1) / (high - low) - 1).flip(-1)[None]
    view = F.grid_sample(part[None], places, mode="bilinear", padding_mode="border", align_corners=False)[0]
    return view, matrix, source


def _pictured(view: Tensor, random: np.random.Generator) -> Tensor:
    """A view [C, S, S, S] with other contrast, brightness, intensity curve, noise and sharpness."""
    channels = []
    for channel in view:
        x = channel * math.exp(random.uniform(-CONTRAST, CONTRAST)) + random.uniform(-BRIGHTNESS, BRIGHTNESS)
        if random.random() < 0.3:
            x = _bent(x, random)
        if random.random() < 0.3:
            noise = random.standard_normal(x.shape, dtype=np.float32) * random.uniform(0, NOISE)
            x = x + torch.from_numpy(noise.astype(np.float32))
        if random.random() < 0.2:
            x = F.avg_pool3d(F.pad(x[None, None], (1,) * 6, mode="replicate"), 3, stride=1)[0, 0]
        channels.append(x)
    return torch.stack(channels)


def _bent(x: Tensor, random: np.random.Generator) -> Tensor:
    """Intensities along a random rising curve between their extremes."""
    low, high = float(x.min()), float(x.max())
    if not 1e-3 <= high - low < math.inf:  # nor where they are not finite
        return x
    knots = np.concatenate([[0.0], np.cumsum(random.uniform(0.2, 1.8, CURVE_PIECES))])
    heights = torch.from_numpy(low + (high - low) * knots / knots[-1]).float()
    position = (x - low) / (high - low) * CURVE_PIECES
    piece = position.floor().clamp(0, CURVE_PIECES - 1).long()
    return heights[piece] + (heights[piece + 1] - heights[piece]) * (position - piece)
