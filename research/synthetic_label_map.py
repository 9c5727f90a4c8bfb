"""A label map into which shapes are painted, through one smooth deformation of space."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

from .synthetic_shapes import Piece, reach

# Knots along a side of the fields that deform everything, roughen surfaces and vary tissue.
WARP, ROUGH, GRAIN = 3, 9, 24
# Share of the side by which points move, one standard deviation.
LEAST_WARP, LARGEST_WARP = 0.02, 0.06
# What would show in fewer voxels is left out, and so is what there is no uint8 for.
LEAST_VOXELS, MOST_LABELS = 12, 256
# Deviation of a sum of cubic B-splines with unit normal coefficients: the mean of their squares is 151 / 315 an axis.
_SPLINE_DEVIATION = (151 / 315) ** 1.5


class Tissue(enum.IntEnum):
    """What a label is made of; decides its range of intensities in each modality."""

    AIR = 0
    FAT = 1
    SOFT = 2
    FLUID = 3
    VESSEL = 4
    BONE = 5
    MARROW = 6
    LUNG = 7
    GAS = 8


def smooth_field(random: np.random.Generator, side: int, knots: np.ndarray | Sequence[float]) -> np.ndarray:
    """A smooth random field, cubic B-splines with normal coefficients; deviation about 1.

    Args:
        random: where the randomness comes from.
        side: voxels along each axis.
        knots: how many intervals the splines make along each axis.

    Returns:
        float32 [side, side, side].
    """
    bases = [_splines(side, max(1, round(number))) for number in knots]
    coefficients = random.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    field = np.tensordot(bases[0], coefficients, 1)
    return np.asarray(bases[1] @ field @ bases[2].T) / np.float32(_SPLINE_DEVIATION)


class LabelMap:
    """The label map while it is painted.

    Args:
        random: where the randomness comes from.
        side: voxels along each axis.
        spacing: relative size of the voxels, [3].
    """

    def __init__(self, random: np.random.Generator, side: int, spacing: np.ndarray) -> None:
        self.random, self.side, self.spacing = random, side, spacing
        self.labels = np.zeros((side, side, side), dtype=np.uint8)
        self.tissues = [Tissue.AIR]
        self.wall, self.ground = 0, 0  # the last label of the body's outer layers, and of the body itself
        self.rough = smooth_field(random, side, ROUGH * spacing)
        strength = random.uniform(LEAST_WARP, LARGEST_WARP)
        self._corner = -spacing / 2
        self._step = spacing / side
        line = np.arange(side, dtype=np.float32) + 0.5
        self.points = np.empty((3, side, side, side), dtype=np.float32)  # deformed places of the voxels
        self._moved = np.empty(3)
        for axis in range(3):
            shape = [side if other == axis else 1 for other in range(3)]
            straight = (self._corner[axis] + self._step[axis] * line).astype(np.float32).reshape(shape)
            moved = strength * smooth_field(random, side, WARP * spacing)
            moved += strength / 8 * smooth_field(random, side, ROUGH * spacing)
            self.points[axis] = straight + moved
            self._moved[axis] = float(np.abs(moved).max())

    def place(self, *tissues: Tissue) -> tuple[np.ndarray, int] | None:
        """A random point [3] in the body, in one of `tissues` if any are named, and its label; None if none was hit."""
        for _ in range(20):
            voxel = tuple(self.random.integers(self.side, size=3))
            label = int(self.labels[voxel])
            if label and (not tissues or self.tissues[label] in tissues):
                return self.points[(slice(None), *voxel)].astype(float), label
        return None

    def new(self, tissue: Tissue) -> int:
        """A label for `tissue`."""
        self.tissues.append(tissue)
        return len(self.tissues) - 1

    def paint(
        self,
        pieces: Sequence[Piece],
        layers: Sequence[tuple[float, Tissue]],
        roughness: float = 0.0,
        only: Sequence[int] | None = None,
        everywhere: bool = False,
    ) -> None:
        """Paint a shape in layers.

        Args:
            pieces: the shape.
            layers: depth from which on, and of what, from outside to inside; the first begins at 0.
            roughness: how far the surface is moved in and out.
            only: labels that may be painted over; None: the whole body.
            everywhere: paint the air, too.
        """
        box = self._box(*reach(pieces))
        if box is None or len(self.tissues) + len(layers) > MOST_LABELS:
            return
        labels = self.labels[box]
        depth = np.full(labels.shape, -np.inf, dtype=np.float32)
        for piece in pieces:
            part = self._box(piece.center - piece.reach, piece.center + piece.reach)
            if part is not None:
                place = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
                inside = piece.depth(self.points[(slice(None), *part)])
                np.maximum(depth[place], inside, out=depth[place])
        if roughness:
            depth += np.float32(roughness) * self.rough[box]
        allowed = np.ones(labels.shape, dtype=bool) if everywhere else labels > 0
        if only is not None:
            allowed &= np.isin(labels, only)
        for least, tissue in layers:
            held = allowed & (depth > least)
            if np.count_nonzero(held) >= LEAST_VOXELS:
                labels[held] = self.new(tissue)

    def _box(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, slice] | None:
        """The voxels whose deformed places may lie between two corners."""
        first = np.clip((low - self._moved - self._corner) / self._step - 1, 0, self.side).astype(int)
        last = np.clip((high + self._moved - self._corner) / self._step + 1, 0, self.side).astype(int)
        if (last <= first).any():
            return None
        return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])


def _splines(side: int, intervals: int) -> np.ndarray:
    """Values of the cubic B-splines of evenly spaced knots at `side` places, float32 [side, intervals + 3]."""
    places = np.linspace(0, intervals, side)
    first = np.minimum(places.astype(int), intervals - 1)
    t = places - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = np.zeros((side, intervals + 3), dtype=np.float32)
    for offset, weight in enumerate(weights):
        basis[np.arange(side), first + offset] = weight / 6
    return basis
