"""Dense consistency: our extension of GL-MAE to every place of a scan, and to the convolutional trunk.

The consistencies of the paper compare one CLS token a view. Here the features of one place of the anatomy are to agree
in a wide and in a close view of it that are turned, magnified and pictured differently, and to differ from those of
other places of the same volume: InfoNCE (arXiv 1807.03748) between places, as in SAM (Yan et al., arXiv 2012.02383)
and, with synthetic anatomy in two appearances, in anatomix (arXiv 2411.02372). `development/train_backbone.py` made the
shipped backbone with it; by the ablation it gives nothing in minutes of a CPU.

What is random at a step is a function of (seed, step, volume), as for the other views.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn import functional as F

from glmae.backbone.presets import BackboneConfig
from glmae.backbone.trunk import Trunk
from glmae.backbone.vision_transformer import VisionTransformer
from glmae.backbone.weights import TRUNK
from glmae.devices import CPU
from glmae.pretraining.further_term import FurtherTerm
from glmae.pretraining.views import TWO_APPEARANCES

HIDDEN, LENGTH = (128, 256), 64
# Of the views: side in voxels, places that are compared in a pair, temperature of their similarities (SAM's is 0.5,
# SimCLR's 0.1). All our choice.
SIDE, PLACES, TEMPERATURE = 48, 384, 0.1
# All our choice. Angles about each axis in radians, and the range of log magnification, of the wide and the close view.
TURNS, MAGNIFICATIONS = (0.2, 0.35), ((-0.1, 0.4), (-0.4, 0.2))
STRETCH = 0.1
# The close view lies up to this share of a view's side beside the middle of the wide one.
SHIFT = 0.3
# Places so many voxels from a view's edge are used, those in air only now and then.
EDGE, AIR, CANDIDATES = 2, 0.05, 6
TRIES, LEAST_DEVIATION = 10, 0.15
CONTRAST, BRIGHTNESS, NOISE, CURVE_PIECES = 0.3, 0.3, 0.2, 6


def dense_consistency(weight: float) -> partial[DenseConsistency] | None:
    """What makes the term for a backbone (`further` of `pretrain`); None where its weight is zero."""
    return partial(DenseConsistency, weight=weight) if weight else None


class DenseConsistency(FurtherTerm):
    """The trunk, and what its maps are compared through.

    Args:
        backbone: of the student.
        weight: of the term in the loss.
        side: of the views, voxels.
        places: that are compared in a pair of them.
    """

    def __init__(self, backbone: BackboneConfig, weight: float = 1.0, side: int = SIDE, places: int = PLACES) -> None:
        super().__init__(weight)
        self.side, self.places = side, places
        self.trunk = Trunk(backbone.channels, backbone)
        self.fine_projector = _projector(self.trunk.fine_width, HIDDEN[0])
        self.coarse_projector = _projector(self.trunk.coarse_width, HIDDEN[1])

    def read(
        self,
        image: np.ndarray,
        appearances: tuple[np.ndarray, np.ndarray] | None,
        seed: list[int],
        device: torch.device,
    ) -> tuple[Tensor, ...]:
        """The pair of a volume, see `dense_pair`."""
        return dense_pair(appearances, image, self.side, self.places, seed, device)

    def forward(self, student: VisionTransformer, *parts: Tensor) -> Tensor:
        """The loss of a batch, the mean over its volumes; a scalar.

        Args:
            student: the transformer.
            parts: the wide and the close view of each of B volumes, complete, nothing masked, [B, 2, C, S, S, S]; and
                n places that both show, in the coordinates of `grid_sample` (-1 to 1; K, J, I), [B, 2, n, 3].
        """
        views, places = parts
        x = views.flatten(0, 1)  # [B * 2, C, S, S, S]
        x = x.contiguous(memory_format=torch.channels_last_3d)
        maps = self.trunk(x, student.features(x, self.trunk.after))
        fine = self._contrast(maps.fine, self.fine_projector, places)
        return fine + self._contrast(maps.coarse, self.coarse_projector, places)

    def weights(self) -> dict[str, Tensor]:
        """The trunk's, which fine-tuning starts from."""
        rescale_kernels(self.trunk)
        return {TRUNK + name: tensor for name, tensor in self.trunk.state_dict().items()}

    def settings(self) -> dict[str, Any]:
        """As stored in model.json."""
        return {"name": "dense", "weight": self.weight, "side": self.side, "places": self.places}

    def _contrast(self, features: Tensor, projector: nn.Module, places: Tensor) -> Tensor:
        """InfoNCE between the places [B, 2, n, 3] of the two views whose maps are `features` [B * 2, C, i, j, k]."""
        grid = places.flatten(0, 1)[:, :, None, None]  # [B * 2, n, 1, 1, 3]
        with torch.autocast(features.device.type, enabled=False):
            at = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        vectors = projector(at[..., 0, 0].transpose(1, 2))  # [B * 2, n, LENGTH]
        with torch.autocast(features.device.type, enabled=False):
            wide, close = F.normalize(vectors.float(), dim=-1).unflatten(0, (-1, 2)).unbind(1)  # [B, n, LENGTH] each
            similar = wide @ close.transpose(1, 2) / TEMPERATURE  # [B, n, n]
            same = torch.arange(similar.shape[1], device=similar.device).expand(len(similar), -1)
            return (F.cross_entropy(similar, same) + F.cross_entropy(similar.transpose(1, 2), same)) / 2


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
        image: the scan, [C, I, J, K], normalized.
        side: voxels of a view along each axis, S.
        places: how many, n.
        seed: of everything random.
        device: where the views are cut and changed.

    Returns:
        Views [2, C, S, S, S] and places [2, n, 3], see `DenseConsistency.forward`; on `device`.
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


def _projector(incoming: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(incoming, hidden), nn.GELU(), nn.Linear(hidden, LENGTH))


@torch.no_grad()
def rescale_kernels(trunk: Trunk) -> None:
    """Give kernels before an instance norm the size of fresh ones, which does not change the maps.

    In pre-training they grow several times over, and a rate of fine-tuning would change them that much less.
    """
    blocks = [*trunk.encoders, trunk.bottom, trunk.joint, *trunk.decoders]
    normed = [block.get_submodule(name) for block in blocks for name in ("conv1", "conv2")]
    for module in (*normed, trunk.tokens):
        for kernel in module.parameters():
            if kernel.ndim == 5:
                # PyTorch draws them uniformly, with deviation 1 / sqrt(3 * fan-in).
                kernel.mul_(math.sqrt(len(kernel) / 3) / kernel.norm().clamp(min=1e-12))
