"""Shapes of synthetic anatomy, as functions that say how deep a point lies inside.

Lengths are shares of the field of view: an isotropic volume spans -0.5..0.5 along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation


class Piece(Protocol):
    """A convex part of a shape; a shape is the union of its pieces."""

    @property
    def center(self) -> np.ndarray:
        """Of a ball that holds the piece, [3]."""

    @property
    def reach(self) -> float:
        """Radius of that ball."""

    def depth(self, points: np.ndarray) -> np.ndarray:
        """About the distance of `points` [3, ...] from the surface, positive inside, [...]."""


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid, or with `boxy` a rounded box; infinite half-axes make it a cylinder or a slab.

    Attributes:
        center: [3].
        axes: half-axes [3].
        turn: rotation matrix [3, 3] from space to the axes.
        boxy: fourth powers instead of squares.
    """

    center: np.ndarray
    axes: np.ndarray
    turn: np.ndarray
    boxy: bool = False

    @property
    def reach(self) -> float:
        """Radius of a ball that holds it."""
        return float(self.axes.max()) * (3**0.25 if self.boxy else 1.0)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """See `Piece`."""
        places = points - self.center.astype(np.float32).reshape(3, *[1] * (points.ndim - 1))
        scaled = (self.turn / self.axes[:, None]).astype(np.float32)
        square = np.tensordot(scaled, places, 1) ** 2
        radius = np.sqrt(np.sqrt((square**2).sum(0))) if self.boxy else np.sqrt(square.sum(0))
        return np.float32(self.axes.min()) * (1 - radius)


@dataclass(frozen=True, eq=False)
class Segment:
    """A straight piece of a tube with round ends.

    Attributes:
        start: [3].
        end: [3].
        radii: at start and end.
    """

    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, float]

    @property
    def center(self) -> np.ndarray:
        """The middle, [3]."""
        return (self.start + self.end) / 2

    @property
    def reach(self) -> float:
        """Radius of a ball that holds it."""
        return float(np.linalg.norm(self.end - self.start)) / 2 + max(self.radii)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """See `Piece`."""
        along = (self.end - self.start).astype(np.float32)
        places = points - self.start.astype(np.float32).reshape(3, *[1] * (points.ndim - 1))
        share = np.clip(np.tensordot(along, places, 1) / max(float(along @ along), 1e-12), 0, 1)
        places -= along.reshape(3, *[1] * (points.ndim - 1)) * share
        radius = self.radii[0] + np.float32(self.radii[1] - self.radii[0]) * share
        return radius - np.sqrt((places**2).sum(0))


@dataclass(frozen=True, eq=False)
class Sheet:
    """A thin disc, curved like a bowl or a saddle.

    Attributes:
        center: [3].
        turn: rotation matrix [3, 3]; the last row is the normal.
        radius: of the disc.
        thickness: of the sheet.
        bend: curvature along the two directions of the disc, [2], 1 / length.
    """

    center: np.ndarray
    turn: np.ndarray
    radius: float
    thickness: float
    bend: np.ndarray

    @property
    def reach(self) -> float:
        """Radius of a ball that holds it."""
        return self.radius * (1 + float(np.abs(self.bend).max()) * self.radius / 2) + self.thickness

    def depth(self, points: np.ndarray) -> np.ndarray:
        """See `Piece`."""
        places = points - self.center.astype(np.float32).reshape(3, *[1] * (points.ndim - 1))
        first, second, height = np.tensordot(self.turn.astype(np.float32), places, 1)
        square = first**2, second**2
        height = height - np.float32(self.bend[0] / 2) * square[0] - np.float32(self.bend[1] / 2) * square[1]
        return np.minimum(self.thickness / 2 - np.abs(height), self.radius - np.sqrt(square[0] + square[1]))


def random_turn(random: np.random.Generator) -> np.ndarray:
    """A uniformly random rotation matrix [3, 3]."""
    return np.asarray(Rotation.from_quat(random.normal(size=4)).as_matrix())


def ellipsoid(random: np.random.Generator, center: np.ndarray, size: float) -> list[Piece]:
    """One ellipsoid or rounded box whose longest half-axis is `size`."""
    axes = size * np.array([1, *random.uniform(0.4, 1, 2)])
    return [Ellipsoid(center, axes, random_turn(random), boxy=bool(random.random() < 0.3))]


def blob(random: np.random.Generator, center: np.ndarray, size: float) -> list[Piece]:
    """A lobed, branching blob within about `size` of its center."""
    pieces = ellipsoid(random, center, 0.7 * size)
    for _ in range(random.integers(2, 6)):
        pieces += ellipsoid(random, center + _direction(random) * size * 0.5, size * random.uniform(0.25, 0.5))
    return pieces


def sheet(random: np.random.Generator, center: np.ndarray, size: float) -> list[Piece]:
    """A curved sheet of radius `size`, a tenth as thick or less."""
    thickness = max(0.012, size * random.uniform(0.03, 0.12))
    return [Sheet(center, random_turn(random), size, thickness, random.uniform(-1, 1, 2) / size)]


def tube(
    random: np.random.Generator, center: np.ndarray, length: float, radius: float, wriggle: float = 0.5
) -> list[Piece]:
    """A winding tube through `center`.

    Args:
        random: where the randomness comes from.
        center: [3].
        length: along its course.
        radius: varies by a fifth along the tube.
        wriggle: change of direction from one piece to the next.
    """
    direction = _direction(random)
    pieces: list[Piece] = []
    for way in (direction, -direction):
        pieces += _course(random, center, way, length / 2, radius, radius, wriggle)[0]
    return pieces


def tree(random: np.random.Generator, center: np.ndarray, length: float, radius: float) -> list[Piece]:
    """A branching tree of tubes with its root at `center`; branches are thinner and shorter than their stem."""
    pieces: list[Piece] = []
    growing = [(center, _direction(random), length, radius, int(random.integers(2, 5)))]
    while growing:
        start, direction, long, wide, generations = growing.pop()
        course, end, direction = _course(random, start, direction, long, wide, 0.8 * wide, 0.3)
        pieces += course
        if generations:
            for _ in range(2):
                turned = direction + 0.8 * _direction(random)
                shares = random.uniform(0.6, 0.9), random.uniform(0.6, 0.8)
                branch = turned / np.linalg.norm(turned), long * shares[0], wide * shares[1]
                growing.append((end, *branch, generations - 1))
    return pieces


def dots(random: np.random.Generator, center: np.ndarray, size: float, radius: float) -> list[Piece]:
    """Several small ellipsoids, strewn within about `size` of `center`."""
    places = center + random.normal(size=(int(random.integers(4, 15)), 3)) * size / 2
    return [piece for place in places for piece in ellipsoid(random, place, radius * random.uniform(0.6, 1.4))]


def reach(pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray]:
    """Two corners [3] of a box that holds all pieces."""
    lows = np.min([piece.center - piece.reach for piece in pieces], axis=0)
    highs = np.max([piece.center + piece.reach for piece in pieces], axis=0)
    return lows, highs


def _course(
    random: np.random.Generator,
    start: np.ndarray,
    direction: np.ndarray,
    length: float,
    first: float,
    last: float,
    wriggle: float,
) -> tuple[list[Piece], np.ndarray, np.ndarray]:
    """Segments of a wandering line from radius `first` to `last`; its end and its direction there."""
    count = int(np.clip(math.ceil(length / (2.5 * first)), 2, 12))
    radii = np.linspace(first, last, count + 1) * random.uniform(0.8, 1.2, count + 1)
    pieces: list[Piece] = []
    for number in range(count):
        end = start + direction * length / count
        pieces.append(Segment(start, end, (float(radii[number]), float(radii[number + 1]))))
        turned = direction + wriggle * _direction(random)
        start, direction = end, turned / np.linalg.norm(turned)
    return pieces, start, direction


def _direction(random: np.random.Generator) -> np.ndarray:
    """A uniformly random unit vector."""
    vector = random.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))
