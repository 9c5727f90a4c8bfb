"""Where in the body each class lies: a blurred mean of the labeled scans, by which probabilities are weighed.

As in atlas-based segmentation (Van Leemput et al., IEEE TMI 1999), on axes that run over the box of the body; an axis
along which a scan shows another length of the body is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..scans.body import body_box
from ..scans.classes import IGNORE
from ..scans.geometry import Box
from ..scans.store import LabeledScan

# Places along each axis of the body's box.
PLACES = 32
# A class is looked for as far from where it lay as a Gaussian of this deviation (a share of the box) tells. The first
# one is taken under which so much of a class lies in places that the other scans allow.
SPREADS, COVERED = (0.12, 0.18, 0.25, 0.35), 0.97
# From this share of the largest value on, a place speaks in no way against a class; below, by the square.
FULL = 0.3
# No place is impossible: a network that is certain enough is believed.
LEAST = 0.03
# Crops of the background are cut where some class has more than this.
NEAR = 0.05
# Two scans show the same length of the body along an axis where these differ by less than this factor.
SAME_LENGTH = 1.35


@dataclass(frozen=True)
class LocationPrior:
    """How much each place in the body speaks for each class.

    Attributes:
        factors: [n, `PLACES`, `PLACES`, `PLACES`] float32 from `LEAST` to 1, along R, A, S of the body's box; 1
            throughout for a class of which nothing is known, because it was nowhere labeled all over.
        lengths: of the bodies in the labeled scans, [scans, 3] mm along R, A, S.
    """

    factors: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(scans: Sequence[LabeledScan]) -> LocationPrior:
        """From labeled scans, of which those count for a class in which it was drawn and nothing is unknown."""
        boxes = [body_box(scan.image) for scan in scans]
        lengths = np.array([_lengths(box, scan.spacing) for box, scan in zip(boxes, scans, strict=True)])
        classes = len(scans[0].annotated)
        factors = np.ones((classes, PLACES, PLACES, PLACES), dtype=np.float32)
        whole = [
            _shares(scan.label, box, classes) if not (np.asarray(scan.label) == IGNORE).any() else None
            for scan, box in zip(scans, boxes, strict=True)
        ]
        for number in range(classes):
            places = [
                found[number]
                for found, scan in zip(whole, scans, strict=True)
                if found is not None and scan.annotated[number] and found[number].any()
            ]
            if places:
                factors[number] = _factors(places)
        # As a model keeps it, so that a scan gives the same result before and after.
        return LocationPrior.from_tensors(LocationPrior(factors, lengths).tensors(), classes)

    def on(self, image: np.ndarray, spacing: Sequence[float]) -> LocationFactors:
        """The factors for a prepared scan.

        Args:
            image: [C, I, J, K].
            spacing: of its voxels, mm.
        """
        box = body_box(image)
        ratios = _lengths(box, spacing) / self.lengths  # [scans, 3]
        unlike = np.all(np.maximum(ratios, 1 / ratios) > SAME_LENGTH, axis=0)
        factors = self.factors
        for axis in np.flatnonzero(unlike):
            factors = np.repeat(factors.max(axis=axis + 1, keepdims=True), PLACES, axis=axis + 1)
        return LocationFactors(factors, box, image.shape[1:])

    def tensors(self) -> dict[str, Tensor]:
        """As kept among the weights of a model: factors as percentages."""
        return {
            "factors": torch.from_numpy(np.rint(100 * self.factors).astype(np.uint8)),
            "lengths": torch.from_numpy(self.lengths.astype(np.float32)),
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], classes: int) -> LocationPrior:
        """The inverse of `tensors`.

        Raises:
            ValueError: they are not those of a prior for so many classes.
        """
        if set(tensors) != {"factors", "lengths"}:
            raise ValueError("the location prior is not complete")
        factors, lengths = tensors["factors"].float().numpy() / 100, tensors["lengths"].double().numpy()
        if factors.shape != (classes, PLACES, PLACES, PLACES) or lengths.ndim != 2 or lengths.shape[1] != 3:
            raise ValueError("the location prior has another shape")
        if not (lengths > 0).all() or not np.isfinite(lengths).all() or factors.max() > 1:
            raise ValueError("the location prior holds values that cannot be")
        return LocationPrior(np.maximum(factors, LEAST).astype(np.float32), lengths)


class LocationFactors:
    """The factors on the voxels of one scan.

    Args:
        factors: [n, `PLACES`, `PLACES`, `PLACES`].
        box: of the body, voxels along I, J, K.
        shape: of the scan, [I, J, K].
    """

    def __init__(self, factors: np.ndarray, box: Box, shape: Sequence[int]) -> None:
        self._factors = torch.from_numpy(np.ascontiguousarray(factors))
        self._axes = [torch.from_numpy(_interpolation(side, edges)) for side, edges in zip(shape, box, strict=True)]
        # Asked here, on the CPU: a GPU would have to be waited for.
        self._placed = [number for number, one in enumerate(self._factors) if one.min() < 1]

    def weigh(self, sums: Tensor, weights: Tensor, planes: slice) -> Tensor:
        """Multiply the network's probabilities with the factors; see `class_slabs.Prior`."""
        if not self._placed:
            return weights
        rows, columns, depths = (axis.to(sums.device) for axis in (*self._axes[:2], self._axes[2][planes]))
        left = weights.clone()
        for number in self._placed:
            one, factor = sums[1 + number], self._factors[number].to(sums.device)
            on_planes = torch.einsum("abc,kc->abk", factor, depths)
            on_voxels = torch.einsum("ia,abk->ibk", rows, on_planes)
            weight = torch.einsum("jb,ibk->ijk", columns, on_voxels)
            before = one.float()
            one.mul_(weight)
            left -= before - one.float()
        return left.clamp_(min=1e-6)

    def near(self, share: float) -> np.ndarray:
        """Voxels [m, 3] of a coarse lattice over the scan whose factor is over `share` for some class."""
        steps = [max(1, len(axis) // PLACES) for axis in self._axes]
        rows, columns, depths = (axis[step // 2 :: step] for axis, step in zip(self._axes, steps, strict=True))
        most = torch.einsum("abc,ia,jb,kc->ijk", self._factors.amax(dim=0), rows, columns, depths)
        found = np.argwhere(most.numpy() > share)
        return np.asarray(found * steps + np.array(steps) // 2)


def _lengths(box: Box, spacing: Sequence[float]) -> np.ndarray:
    return np.array([(high - low) * mm for (low, high), mm in zip(box, spacing, strict=True)], dtype=np.float64)


def _interpolation(side: int, edges: tuple[int, int]) -> np.ndarray:
    """The weights [side, `PLACES`] of linear interpolation between places; beyond the box the last one goes on."""
    low, high = edges
    at = ((np.arange(side) + 0.5 - low) / (high - low) * PLACES - 0.5).clip(0, PLACES - 1)
    distance = np.abs(at[:, None] - np.arange(PLACES))
    return np.maximum(0, 1 - distance).astype(np.float32)


def _shares(label: np.ndarray, box: Box, classes: int) -> np.ndarray:
    """How much of each place a class takes, from two samples along each axis: [n, `PLACES`, `PLACES`, `PLACES`]."""
    label = np.asarray(label)
    places = []
    for side, (low, high) in zip(label.shape, box, strict=True):
        at = low + (np.arange(2 * PLACES) + 0.5) / (2 * PLACES) * (high - low)
        places.append(at.astype(int).clip(0, side - 1))
    sampled = label[np.ix_(*places)]
    shares = np.zeros((classes, PLACES, PLACES, PLACES), dtype=np.float32)
    boxes = ndimage.find_objects(label, max_label=classes)
    for number, held in enumerate(boxes, 1):
        if held is None:
            continue
        mask = (sampled == number).astype(np.float32)
        if not mask.any():  # too small for the samples
            center = np.argwhere(label[held] == number).mean(axis=0) + [part.start for part in held]
            first = [
                int(np.clip((c + 0.5 - low) / (high - low) * PLACES, 0, PLACES - 1))
                for c, (low, high) in zip(center, box, strict=True)
            ]
            shares[(number - 1, *first)] = 1.0
            continue
        shares[number - 1] = mask.reshape(PLACES, 2, PLACES, 2, PLACES, 2).mean(axis=(1, 3, 5))
    return shares


def _factors(places: Sequence[np.ndarray]) -> np.ndarray:
    """From the places of one class in each scan; see `SPREADS`."""
    for spread in SPREADS:
        blurred = [_blurred(place, spread) for place in places]
        if len(places) == 1 or _covered(places, blurred) >= COVERED:
            break
    return _from_mean(np.mean(blurred, axis=0))


def _blurred(place: np.ndarray, spread: float) -> np.ndarray:
    smooth = ndimage.gaussian_filter(place, spread * PLACES)
    return np.asarray(smooth / smooth.max())


def _from_mean(mean: np.ndarray) -> np.ndarray:
    factors = np.minimum(1.0, mean / FULL) ** 2
    return np.maximum(LEAST, factors).astype(np.float32)


def _covered(places: Sequence[np.ndarray], blurred: Sequence[np.ndarray]) -> float:
    """The share of a class, over the scans, that lies where the other scans leave it at least half of its weight."""
    total = np.sum(blurred, axis=0)
    others = [_from_mean((total - own) / (len(places) - 1)) >= 0.5 for own in blurred]
    return float(np.mean([place[allowed].sum() / place.sum() for place, allowed in zip(places, others, strict=True)]))
