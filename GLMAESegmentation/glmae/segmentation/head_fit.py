"""The instant model: the head fitted to the labeled scans' maps, in seconds, while the backbone stays as it is.

Three perceptrons, on the fine map, on the trunk's maps, and on these with the tokens, are fitted apart from each other.
Side by side they are the hidden layer of `Head`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from ..scans.classes import IGNORE
from .loss import marginal
from .network import UNITS, Head, ScanMaps

# Places of classes, in equal shares, and of background, over all labeled scans.
CLASS_PLACES, OTHER_PLACES = 20_000, 40_000
# The share of them that lies in augmented crops, if there are some: of one labeled scan, and of several.
CROPS_SHARE = 0.7, 0.35
# This share of the background's lies within so many places of a class: where borders are to be found.
NEAR_SHARE, NEAR = 0.5, 6.0
BATCH, LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 1024, 3e-3, 0.1, 0.3
# Places that are worked on together where memory counts.
ROWS = 4096
# A class weighs as this power of its share of the places.
BALANCE = -0.5


@dataclass(frozen=True)
class LabeledMaps:
    """One labeled scan, or a crop of one.

    Attributes:
        maps: of it, made by a network with a `Head`.
        label: [I, J, K] uint8, see `scans.labels`.
        annotated: for each class, whether it was drawn there.
    """

    maps: ScanMaps
    label: np.ndarray
    annotated: tuple[bool, ...]


@dataclass(frozen=True)
class Places:
    """What the perceptrons are fitted to.

    Attributes:
        features: [N, widths of all maps], float16 like the maps.
        shares: [N, n+1], how much of a place each class takes; 1 over the classes.
        hidden: [N, n], whether a class was not drawn in the place's scan: then it may lie in the background.
    """

    features: Tensor
    shares: Tensor
    hidden: Tensor


def fit_head(
    head: Head,
    scans: Sequence[LabeledMaps],
    seed: int,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
    crops: Sequence[LabeledMaps] = (),
) -> None:
    """Fit the hidden layer and the output of a head; the same seed and scans give the same weights (on the CPU).

    Args:
        head: changed in place; its trunk is left as it is.
        scans: at least one.
        seed: of the places, the initial weights and the batches.
        steps: of each perceptron.
        on_step: called now and then; may raise to stop.
        crops: of the scans, augmented.

    Raises:
        ValueError: nothing is known of any voxel of the scans.
    """
    places = sample_places(head, scans, np.random.default_rng(seed), crops)
    mean, deviation = _standardize(places.features)
    share = places.shares.mean(dim=0).clamp_min(1e-6)
    weighed = places.shares * (share**BALANCE / (share ** (1 + BALANCE)).sum())

    sets = _sets(head)
    with ThreadPoolExecutor(min(len(sets), torch.get_num_threads())) as threads:
        perceptrons = list(
            threads.map(
                lambda number: _fitted(
                    places.features[:, sets[number]], weighed, places.hidden, seed * len(sets) + number, steps, on_step
                ),
                range(len(sets)),
            )
        )
    hidden = torch.zeros(UNITS * len(sets), len(mean))
    bias = []
    for number, (columns, perceptron) in enumerate(zip(sets, perceptrons, strict=True)):
        weight = perceptron.first.weight / deviation[columns]
        hidden[UNITS * number : UNITS * (number + 1), columns] = weight
        bias.append(perceptron.first.bias - weight @ mean[columns])
    output = torch.cat([perceptron.last.weight for perceptron in perceptrons], dim=1)
    output_bias = torch.stack([perceptron.last.bias.detach() for perceptron in perceptrons]).mean(dim=0)
    _write(head, hidden, torch.cat(bias), output, output_bias)


def sample_places(
    head: Head, scans: Sequence[LabeledMaps], rng: np.random.Generator, crops: Sequence[LabeledMaps] = ()
) -> Places:
    """Draw places of the finest map of which something is known.

    Raises:
        ValueError: there are none.
    """
    features, shares, hidden = [], [], []
    in_crops = CROPS_SHARE[len(scans) > 1] if crops else 0.0
    for group, share in ((scans, 1 - in_crops), (crops, in_crops)):
        of_classes, others = (round(share * count / max(1, len(group))) for count in (CLASS_PLACES, OTHER_PLACES))
        for scan in group:
            voxels = _voxels_of_places(scan, head.trunk.subvoxels)
            drawn = _drawn_places(voxels, scan.maps.levels[0].shape[1:], of_classes, others, rng)
            if not len(drawn):
                continue
            at = torch.from_numpy(drawn)
            features.append(_features(scan.maps, at))
            shares.append(_shares(torch.from_numpy(voxels[drawn]), len(scan.annotated)))
            hidden.append(~torch.tensor(scan.annotated).expand(len(at), -1))
    if not features:
        raise ValueError("no voxel of the labeled scans is known")
    return Places(torch.cat(features), torch.cat(shares), torch.cat(hidden))


def _sets(head: Head) -> list[slice]:
    """The columns of the features that each perceptron sees."""
    fine, tokens = head.trunk.fine_width, sum(head.widths[-1][1:])
    everything = sum(map(sum, head.widths))
    return [slice(0, fine), slice(0, everything - tokens), slice(0, everything)]


def _standardize(features: Tensor) -> tuple[Tensor, Tensor]:
    """Give each column mean 0 and deviation 1, in place and without a copy of all; returns what they were."""
    parts = features.split(ROWS)
    mean = sum(part.float().sum(dim=0) for part in parts) / len(features)
    square = sum((part.float() - mean).square().sum(dim=0) for part in parts) / len(features)
    assert isinstance(mean, Tensor)
    deviation = torch.as_tensor(square).sqrt().clamp_min(1e-6)
    for part in parts:
        part.copy_((part.float() - mean) / deviation)
    return mean, deviation


class _Perceptron(nn.Module):
    """One hidden layer, [N, inputs] -> logits [N, outputs]; all that is random in it comes from `random`."""

    def __init__(self, inputs: int, outputs: int, random: torch.Generator) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, UNITS), nn.Linear(UNITS, outputs)
        self._random = random
        for layer in (self.first, self.last):
            reach = layer.in_features**-0.5  # as PyTorch draws them
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -reach, reach, generator=random)

    def forward(self, x: Tensor) -> Tensor:
        units = F.gelu(self.first(x))
        kept = torch.rand(units.shape, generator=self._random) >= DROPOUT
        logits: Tensor = self.last(units * kept / (1 - DROPOUT))
        return logits


def _fitted(
    features: Tensor, weighed: Tensor, hidden: Tensor, seed: int, steps: int, on_step: Callable[[], None]
) -> _Perceptron:
    """One perceptron, fitted by AdamW with a learning rate that falls as half a cosine."""
    torch.set_num_threads(1)  # of this thread: the products are small, and the perceptrons have a thread each
    random = torch.Generator().manual_seed(seed)
    partly = bool(hidden.any())
    with torch.inference_mode(False), torch.enable_grad():
        perceptron = _Perceptron(features.shape[1], weighed.shape[1], random)
        optimizer = torch.optim.AdamW(perceptron.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            on_step()
            batch = torch.randint(len(features), (min(BATCH, len(features)),), generator=random)
            logs = perceptron(features[batch].float()).log_softmax(dim=1)
            if partly:
                logs = marginal(logs, ~hidden[batch])
            loss = -(weighed[batch] * logs).sum() / weighed[batch].sum().clamp_min(1e-6)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    return perceptron.requires_grad_(False)


@torch.no_grad()
def _write(head: Head, hidden: Tensor, bias: Tensor, output: Tensor, output_bias: Tensor) -> None:
    """Put the perceptrons side by side: the mean of their logits is one output layer on all their units."""
    start = 0
    for layer, widths in zip(head.hidden, head.widths, strict=True):
        assert isinstance(layer, nn.Conv3d)
        layer.weight.copy_(hidden[:, start : start + sum(widths), None, None, None])
        start += sum(widths)
    first = head.hidden[0]
    for parameter, values in ((first.bias, bias), (head.output.bias, output_bias)):
        assert isinstance(parameter, Tensor)
        parameter.copy_(values)
    head.output.weight.copy_(output[:, :, None, None, None] / (len(bias) // UNITS))
    for parameter in head.voxel_output.parameters():
        parameter.zero_()


def _voxels_of_places(scan: LabeledMaps, parts: tuple[int, int, int]) -> np.ndarray:
    """The labels of the voxels in each place of the finest map, [places, voxels]; `IGNORE` beside the scan."""
    maps = scan.maps
    size = [side * part for side, part in zip(maps.levels[0].shape[1:], parts, strict=True)]
    whole = np.full(size, IGNORE, dtype=np.uint8)
    inside = tuple(slice(start, start + side) for start, side in zip(maps.before, maps.shape, strict=True))
    whole[inside] = scan.label
    (a, b, c), (i, j, k) = parts, maps.levels[0].shape[1:]
    cells = whole.reshape(i, a, j, b, k, c).transpose(0, 2, 4, 1, 3, 5)
    return np.ascontiguousarray(cells.reshape(i * j * k, a * b * c))


def _drawn_places(
    voxels: np.ndarray, size: Sequence[int], of_classes: int, others: int, rng: np.random.Generator
) -> np.ndarray:
    """Places [m], sorted: each class has the same share of `of_classes`, or all the places that it has."""
    known = (voxels != IGNORE).any(axis=1)
    held = ((voxels != 0) & (voxels != IGNORE)).any(axis=1)
    some = voxels[held]
    classes = np.unique(some[(some != 0) & (some != IGNORE)])
    there = np.flatnonzero(held)
    drawn = [_drawn(there[(some == number).any(axis=1)], of_classes // len(classes), rng) for number in classes]
    other = known & ~held
    if len(there):
        near = ndimage.distance_transform_edt(~held.reshape(size)).ravel() <= NEAR
        drawn.append(_drawn(np.flatnonzero(other & near), round(NEAR_SHARE * others), rng))
        others -= len(drawn[-1])
    drawn.append(_drawn(np.flatnonzero(other), others, rng))
    return np.unique(np.concatenate(drawn))


def _drawn(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(places, count, replace=False) if len(places) > count else places


def _shares(voxels: Tensor, classes: int) -> Tensor:
    """Of the known voxels [N, voxels] of each place: the share of background and the classes, [N, n+1]."""
    shares = torch.zeros(len(voxels), classes + 1)
    for column in voxels.long().T:
        known = column != IGNORE
        shares[torch.arange(len(column)), column.where(known, 0)] += known.float()
    return shares / shares.sum(dim=1, keepdim=True).clamp_min(1)


def _features(maps: ScanMaps, at: Tensor) -> Tensor:
    """All maps at some places of the finest one, coarser ones interpolated as the head does: [N, widths]."""
    fine = maps.levels[0]
    size = fine.shape[1:]
    columns = [fine.flatten(1)[:, at].T.float()]
    i, j, k = torch.unravel_index(at, size)
    # `grid_sample` wants the axes in reverse order, each from -1 to 1.
    where = [(2 * index + 1) / side - 1 for index, side in zip((k, j, i), reversed(size), strict=True)]
    grid = torch.stack(where, dim=1).float().view(1, -1, 1, 1, 3)
    for level in maps.levels[1:]:
        found = F.grid_sample(level[None].float(), grid, padding_mode="border", align_corners=False)
        columns.append(found[0, :, :, 0, 0].T)
    return torch.cat(columns, dim=1).half()
