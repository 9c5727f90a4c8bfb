"""Shapes from the labeled scans: their labels, moved to where a first result found the classes, shape the second.

The centers of the classes move them, by a shift and, from three classes on, a linear map close to the identity. They
are blurred and multiplied with the network's probabilities as in a logarithmic opinion pool: p^(1-w) a^w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..scans.classes import IGNORE
from ..scans.store import LabeledScan
from ..scans.structures import connected_parts

# Labels of at most so many scans are kept.
MOST_ATLASES = 8
# With fewer classes their centers say too little of where a body lies.
FEWEST_CLASSES = 3
BLUR_MM, WEIGHT = 4.0, 0.3
# What is blurred afterwards is looked at on voxels of about this size, where the scan's are smaller.
COARSE_MM = 3.0
# From this Dice of first result and moved label on, a moved label is believed.
AGREEMENT = 0.4
# How far the linear map is from the identity costs as a spread of the centers of so many mm; no entry is further.
RIDGE_MM, FURTHEST = 30.0, 0.35
# Residuals under this are noise; a class needs so many voxels to have a center.
NOISE_MM, FEWEST_VOXELS, ROUNDS = 5.0, 8, 8
LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Atlas:
    """The label of one scan.

    Attributes:
        label: uint8 [I, J, K], 0..n, thinned out.
        spacing: of its voxels, mm.
        annotated: for each class, whether it was drawn there, and is one that the atlas is asked for.
    """

    label: np.ndarray
    spacing: tuple[float, float, float]
    annotated: tuple[bool, ...]

    @staticmethod
    def of(scan: LabeledScan, bound: Sequence[int]) -> Atlas | None:
        """From a labeled scan and the classes it is asked for; None if a part of it is unknown."""
        label = np.asarray(scan.label)
        if (label == IGNORE).any():
            return None
        a, b, c = _steps(scan.spacing)
        first, second, third = (side * step for side, step in zip(scan.spacing, (a, b, c), strict=True))
        annotated = tuple(drawn and number in bound for number, drawn in enumerate(scan.annotated, 1))
        return Atlas(np.ascontiguousarray(label[::a, ::b, ::c]), (first, second, third), annotated)


@dataclass(frozen=True)
class AtlasFusion:
    """The labels of a model's training scans; see the module."""

    atlases: tuple[Atlas, ...]

    @staticmethod
    def of(scans: Sequence[LabeledScan], bound: Sequence[int]) -> AtlasFusion | None:
        """From labeled scans; None where too few classes were drawn in whole.

        Args:
            bound: the classes, 1..n, that have a place in the body: a lesion may be anywhere.
        """
        found = [atlas for scan in scans[:MOST_ATLASES] if (atlas := Atlas.of(scan, bound)) is not None]
        found = [atlas for atlas in found if sum(atlas.annotated) >= FEWEST_CLASSES]
        return AtlasFusion(tuple(found)) if found else None

    def on(self, first: np.ndarray, spacing: Sequence[float]) -> MovedAtlases | None:
        """The labels moved to the classes of a first result; None where they do not fit it.

        Args:
            first: class numbers 0..n of a prepared scan, [I, J, K] uint8.
            spacing: of its voxels, mm.
        """
        steps = _steps(spacing)
        thin = first[:: steps[0], :: steps[1], :: steps[2]]
        sides = np.array([side * step for side, step in zip(spacing, steps, strict=True)])
        centers = _centers(thin, sides)
        classes = len(self.atlases[0].annotated)
        total, weights = np.zeros((classes, *thin.shape), dtype=np.float32), np.zeros(classes)
        for atlas in self.atlases:
            moved = _moved(atlas, centers, thin.shape, sides)
            agreement = 0.0 if moved is None else _agreement(moved, thin, atlas.annotated)
            if moved is None or agreement < AGREEMENT:
                continue
            for index in np.flatnonzero(atlas.annotated):
                inside = (moved == index + 1).astype(np.float32)
                total[index] += agreement * ndimage.gaussian_filter(inside, BLUR_MM / sides, truncate=2.5)
                weights[index] += agreement
        if not weights.any():
            return None
        shares = total / np.maximum(weights, 1e-6)[:, None, None, None]
        return MovedAtlases(torch.from_numpy(shares.astype(np.float32)), weights > 0, steps)

    def tensors(self) -> dict[str, Tensor]:
        """As kept among the weights of a model."""
        found: dict[str, Tensor] = {}
        for number, atlas in enumerate(self.atlases):
            found[f"{number}.label"] = torch.from_numpy(atlas.label.copy())
            found[f"{number}.spacing"] = torch.tensor(atlas.spacing, dtype=torch.float64)
            found[f"{number}.annotated"] = torch.tensor(atlas.annotated, dtype=torch.uint8)
        return found

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], classes: int) -> AtlasFusion:
        """The inverse of `tensors`.

        Raises:
            ValueError: they are not those of labels with so many classes.
        """
        atlases = []
        count, rest = divmod(len(tensors), 3)
        if rest or count > MOST_ATLASES:
            raise ValueError("the labels are not complete")
        for number in range(count):
            try:
                label, spacing, annotated = (
                    tensors[f"{number}.{name}"].numpy() for name in ("label", "spacing", "annotated")
                )
            except KeyError as error:
                raise ValueError("the labels are not complete") from error
            if label.dtype != np.uint8 or label.ndim != 3 or spacing.shape != (3,) or annotated.shape != (classes,):
                raise ValueError("the labels have another shape")
            if label.max(initial=0) > classes or not (np.isfinite(spacing).all() and (spacing > 0).all()):
                raise ValueError("the labels hold values that cannot be")
            i, j, k = map(float, spacing)
            atlases.append(Atlas(label, (i, j, k), tuple(map(bool, annotated))))
        return AtlasFusion(tuple(atlases))


class MovedAtlases:
    """How much of each class the moved labels expect at each place of one scan.

    Args:
        shares: [n, i, j, k] float32, on every so many voxels of the scan.
        drawn: for each class, whether the labels know it.
        steps: voxels between the places along I, J, K.
    """

    def __init__(self, shares: Tensor, drawn: np.ndarray, steps: Sequence[int]) -> None:
        self._shares, self._drawn, self._steps = shares, drawn, steps

    def weigh(self, sums: Tensor, weights: Tensor, planes: slice) -> Tensor:
        """Pool the network's probabilities with the labels; see `class_slabs.Prior`."""
        places = torch.arange(planes.start, planes.stop) / self._steps[2]
        background = torch.ones(sums.shape[1:])
        total = torch.zeros(sums.shape[1:])
        for number in [*range(1, len(sums)), 0]:
            share = background.clamp_(0, 1) if number == 0 else self._on(number - 1, sums.shape[1:3], places)
            if number:
                background -= share
            pooled = (sums[number].cpu().float() / weights.cpu()).clamp_min_(1e-6) ** (1 - WEIGHT)
            # Of a class that the labels do not know, nothing is expected, and nothing against it.
            known = number == 0 or bool(self._drawn[number - 1])
            pooled *= share.clamp_min(LEAST_SHARE) ** WEIGHT if known else 1.0
            sums[number] = pooled.to(sums)
            total += pooled
        return total.clamp_min_(1e-6).to(weights)

    def _on(self, index: int, section: Sequence[int], places: Tensor) -> Tensor:
        """The share of a class on the voxels of some planes, [I, J, planes], interpolated linearly."""
        share = self._shares[index]
        for axis, at in enumerate((*(torch.arange(n) / s for n, s in zip(section, self._steps, strict=False)), places)):
            last = share.shape[axis] - 1
            low = at.floor().clamp(max=last).long()
            part = (at - low).clamp(0, 1).view([-1 if a == axis else 1 for a in range(3)])
            high = (low + 1).clamp(max=last)
            share = share.index_select(axis, low) * (1 - part) + share.index_select(axis, high) * part
        return share


def _steps(spacing: Sequence[float]) -> tuple[int, int, int]:
    first, second, third = (max(1, round(COARSE_MM / side)) for side in spacing)
    return first, second, third


def _centers(numbers: np.ndarray, sides: np.ndarray) -> dict[int, np.ndarray]:
    """The center in mm of the largest part of each class that is there."""
    found = {}
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if box is None:
            continue
        parts, sizes = connected_parts(numbers[box] == number)
        if sizes.max() >= FEWEST_VOXELS:
            inside = ndimage.center_of_mass(parts == 1 + int(sizes.argmax()))
            found[number] = (np.array(inside) + [part.start for part in box]) * sides
    return found


def _moved(
    atlas: Atlas, centers: Mapping[int, np.ndarray], shape: Sequence[int], sides: np.ndarray
) -> np.ndarray | None:
    """The label moved so that its classes' centers fall on `centers`, [I, J, K] uint8; None: nothing in common."""
    spacing = np.array(atlas.spacing)
    own = _centers(atlas.label, spacing)
    common = [number for number in own if number in centers and atlas.annotated[number - 1]]
    if not common:
        return None
    source, target = (np.array([where[number] for number in common]) for where in (own, centers))
    weights, linear = np.ones(len(common)), np.eye(3)
    for _ in range(ROUNDS):
        shares = weights / weights.sum()
        middle, goal = shares @ source, shares @ target
        spread, wanted = source - middle, target - goal
        if len(common) >= FEWEST_CLASSES:
            weighed = spread * weights[:, None]
            moment = weighed.T @ spread + RIDGE_MM**2 * np.eye(3)
            change = np.linalg.solve(moment, weighed.T @ (wanted - spread)).T
            linear = np.eye(3) + change.clip(-FURTHEST, FURTHEST)
        residuals = np.linalg.norm(wanted - spread @ linear.T, axis=1)
        weights = 1 / (1 + (residuals / max(NOISE_MM, 1.5 * float(np.median(residuals)))) ** 2)
    back = np.linalg.inv(linear)
    matrix = back * sides[None, :] / spacing[:, None]
    offset = (middle - back @ goal) / spacing
    moved = ndimage.affine_transform(atlas.label, matrix, offset, output_shape=tuple(shape), order=0)
    return np.asarray(moved)


def _agreement(moved: np.ndarray, first: np.ndarray, annotated: Sequence[bool]) -> float:
    """Dice of two labels, mean over the classes of the first."""
    found = []
    for number, drawn in enumerate(annotated, 1):
        one, two = moved == number, first == number
        if drawn and (one.any() or two.any()):
            found.append(2 * np.count_nonzero(one & two) / (np.count_nonzero(one) + np.count_nonzero(two)))
    return float(np.mean(found)) if found else 0.0
