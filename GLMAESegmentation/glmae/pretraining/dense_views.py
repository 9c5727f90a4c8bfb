"""Pairs of views for the dense consistency: the same anatomy turned, magnified and pictured differently.

What is random at a step is a function of (seed, step, volume), as for the other views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

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
CPU = torch.device("cpu")


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
    appearances: tuple[np.ndarray, np.ndarray] | None,
    image: np.ndarray,
    side: int,
    places: int,
    seed: list[int],
    device: torch.device = CPU,
) -> tuple[Tensor, Tensor]:
    """One volume's pair. Nothing in it waits for the device.

    Args:
        appearances: the scan pictured in two ways, if it is, [C, I, J, K] each.
        image: the scan, [C, I, J, K], normalised.
        side: voxels of a view along each axis, S.
        places: how many, n.
        seed: of everything random.
        device: where the views are cut and changed.

    Returns:
        Views [2, C, S, S, S] and places [2, n, 3], see `DensePairs`; on `device`.
    """
    random = np.random.default_rng(seed)
    first, second = image, image
    if appearances is not None and random.random() < TWO_APPEARANCES:
        first, second = appearances[:: 1 if random.random() < 0.5 else -1]
    shape = np.array(first.shape[1:], dtype=float)
    middle = _middle(first, shape, side, random)
    beside = middle + random.uniform(-SHIFT, SHIFT, 3) * side * np.minimum(1, shape / side)
    wide_matrix = _matrix(random, TURNS[0], MAGNIFICATIONS[0])
    close_matrix = _matrix(random, TURNS[1], MAGNIFICATIONS[1])
    wide = _view(first, middle, wide_matrix, side, device)
    close = _view(second, beside, close_matrix, side, device)

    # Where candidates of the close view lie in the scan, and in the wide view; in numbers of voxels, [m, 3].
    drawn = random.integers(EDGE, side - EDGE, (CANDIDATES * places, 3))
    there = (drawn - (side - 1) / 2) @ close_matrix.T + beside
    in_wide = (there - middle) @ np.linalg.inv(wide_matrix).T + (side - 1) / 2
    inside = ((in_wide >= EDGE) & (in_wide <= side - 1 - EDGE)).all(axis=1)
    inside &= ((there >= 0) & (there <= shape - 1)).all(axis=1)
    at = torch.from_numpy(drawn).to(device)
    spared = torch.from_numpy(inside & (random.random(len(drawn)) >= 0.9)).to(device)
    seen = torch.from_numpy(inside).to(device)
    values = close[0][at[:, 0], at[:, 1], at[:, 2]]
    tissue = seen & (values > close[0].min() + AIR) | spared
    # The best there are, again from the first where they are too few.
    order = torch.argsort(tissue.long() + seen.long(), descending=True, stable=True)
    good, fair = tissue.sum(), seen.sum()
    enough = torch.where(good > 0, good, torch.where(fair > 0, fair, len(drawn)))
    chosen = order[torch.arange(places, device=device) % enough]
    both = torch.from_numpy(np.stack([in_wide, drawn])).to(device).float()[:, chosen]  # [2, n, 3]
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


def _matrix(random: np.random.Generator, turn: float, magnification: tuple[float, float]) -> np.ndarray:
    """From voxels of a view to those of the scan, [3, 3]."""
    zoom = math.exp(random.uniform(*magnification)) * np.exp(random.uniform(-STRETCH, STRETCH, 3))
    return np.asarray(Rotation.from_euler("xyz", random.uniform(-turn, turn, 3)).as_matrix() @ np.diag(zoom))


def _view(image: np.ndarray, middle: np.ndarray, matrix: np.ndarray, side: int, device: torch.device) -> Tensor:
    """The view [C, S, S, S] of a scan [C, I, J, K] around `middle`, on `device`."""
    shape = np.array(image.shape[1:])
    reach = np.abs(matrix).sum(axis=1) * (side - 1) / 2  # of the cube's corners
    low = np.minimum(np.clip(np.floor(middle - reach), 0, None), shape - 1).astype(int)
    high = np.maximum(np.minimum(np.ceil(middle + reach) + 2, shape), low + 1).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = torch.from_numpy(np.array(image[(slice(None), *box)])).to(device).float()
    # From voxels of the view to -1..1 over the part; grid_sample wants K first.
    scale = 2 / (high - low)
    columns = torch.from_numpy((matrix * scale[:, None]).T[:, ::-1].copy()).float().to(device)  # [3 of the view, 3]
    start = torch.from_numpy(((2 * (middle - low) + 1) / (high - low) - 1)[::-1].copy()).float().to(device)
    axis = torch.arange(side, dtype=torch.float32, device=device) - (side - 1) / 2
    along = axis[:, None] * columns[:, None]  # [3, S, 3]
    places = along[0][:, None, None] + along[1][:, None] + (along[2] + start)
    return F.grid_sample(part[None], places[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def _pictured(view: Tensor, random: np.random.Generator) -> Tensor:
    """A view [C, S, S, S] with other contrast, brightness, intensity curve, noise and sharpness."""
    channels = []
    for channel in view:
        x = channel * math.exp(random.uniform(-CONTRAST, CONTRAST)) + random.uniform(-BRIGHTNESS, BRIGHTNESS)
        if random.random() < 0.3:
            x = _bent(x, random)
        if random.random() < 0.3:
            noise = random.standard_normal(x.shape, dtype=np.float32) * np.float32(random.uniform(0, NOISE))
            x = x + torch.from_numpy(noise).to(x.device)
        if random.random() < 0.2:
            x = F.avg_pool3d(F.pad(x[None, None], (1,) * 6, mode="replicate"), 3, stride=1)[0, 0]
        channels.append(x)
    return torch.stack(channels)


def _bent(x: Tensor, random: np.random.Generator) -> Tensor:
    """Intensities along a random rising curve between their extremes."""
    knots = np.concatenate([[0.0], np.cumsum(random.uniform(0.2, 1.8, CURVE_PIECES))])
    low, high = x.min(), x.max()
    heights = low + (high - low) * torch.from_numpy(knots / knots[-1]).float().to(x.device)
    position = torch.nan_to_num((x - low) / (high - low) * CURVE_PIECES, nan=0.0).clamp(0, CURVE_PIECES)
    piece = position.floor().clamp(max=CURVE_PIECES - 1).long()
    bent = heights[piece] + (heights[piece + 1] - heights[piece]) * (position - piece)
    # Not where all is one value, nor where values are not finite.
    return torch.where((high - low >= 1e-3) & torch.isfinite(high - low), bent, x)
