"""Random anatomy that belongs to no body: label maps of deformed shapes, nested, touching and of many sizes.

After the idea of anatomix (Dey et al., "Learning General-purpose Biomedical Volume Representations using Randomized
Synthesis", ICLR 2025, arXiv 2411.02372); shapes, bodies and their mixture are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .synthetic_label_map import GRAIN, ROUGH, LabelMap, Tissue, smooth_field
from .synthetic_shapes import Ellipsoid, Piece, blob, dots, ellipsoid, random_turn, sheet, tree, tube

# How many structures a cube holds, and how far they reach: first large ones that fill the body, then all others.
ORGANS, STRUCTURES = (4, 20), (14, 40)
ORGAN_SIZES, SIZES = (0.1, 0.28), (0.02, 0.25)
# Share of the structures that end where the one around them ends.
NESTED = 0.25
# Share of the field of view that is body, at least; others are drawn again.
LEAST_BODY = 0.15


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A label map and what its labels are made of.

    Attributes:
        labels: uint8 [I, J, K]; 0 is the air around the body.
        tissues: of each label.
        textures: two fields of mean 0 and deviation about 1 that vary tissue from place to place, a coarse and a fine
            one, float32 [2, I, J, K].
        spacing: of the voxels along each axis, in units of the finest.
    """

    labels: np.ndarray
    tissues: tuple[Tissue, ...]
    textures: np.ndarray
    spacing: tuple[float, float, float]

    @property
    def body(self) -> np.ndarray:
        """Where the body is, bool [I, J, K]."""
        return self.labels > 0


def random_anatomy(random: np.random.Generator, side: int) -> Anatomy:
    """Draw an anatomy: a trunk or a head in air, or a region within a body.

    Args:
        random: decides everything.
        side: voxels along each axis.
    """
    spacing = np.ones(3)
    if random.random() < 0.25:
        spacing[random.choice(3, p=[0.2, 0.2, 0.6])] = random.uniform(1.5, 3.5)
    setting = _SETTINGS[random.choice(len(_SETTINGS), p=_SETTING_SHARES)]
    while True:
        label_map = LabelMap(random, side, spacing)
        setting(label_map)
        if np.count_nonzero(label_map.labels) >= LEAST_BODY * label_map.labels.size:
            break
    label_map.ground = len(label_map.tissues) - 1
    larger = min(2.0, float(spacing.max()))  # the field of view, along one axis
    for _ in range(int(larger * random.integers(*ORGANS))):
        _structure(label_map, _organ, float(random.uniform(*ORGAN_SIZES)), pressed=0.7)
    low, high = np.log(SIZES)
    sizes = np.exp(random.uniform(low, high, int(larger * random.integers(*STRUCTURES))))
    for size in sorted(sizes, reverse=True):  # small ones come last, so that they are not covered
        _structure(label_map, _KINDS[random.choice(len(_KINDS), p=_KIND_SHARES)], float(size), pressed=0.25)
    textures = np.stack([smooth_field(random, side, knots * spacing) for knots in (ROUGH, GRAIN)])
    found = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Anatomy(label_map.labels, tuple(label_map.tissues), textures, found)


def _outline(label_map: LabelMap, third: float) -> Ellipsoid:
    """The outline of a body, about as wide as the field of view, or cut by it."""
    random = label_map.random
    wide = random.uniform(0.33, 0.65)
    axes = np.array([wide, wide * random.uniform(0.65, 1), wide * third])
    center = random.uniform(-0.12, 0.12, 3)
    turn = np.eye(3)
    if random.random() < 0.25:  # limbs, and scans that are not axial
        turn = random_turn(random)
    return Ellipsoid(center, axes, turn, boxy=bool(third == np.inf and random.random() < 0.4))


def _trunk(label_map: LabelMap) -> None:
    """A long body: skin, fat, muscle around an inside of fat or soft tissue; often lungs and a spine."""
    random = label_map.random
    body = _outline(label_map, np.inf)
    fat, wall = random.uniform(0.01, 0.07), random.uniform(0.01, 0.06)
    inside = Tissue.FAT if random.random() < 0.6 else Tissue.SOFT
    layers = [(0.0, Tissue.SOFT), (0.008, Tissue.FAT), (fat, Tissue.SOFT), (fat + wall, inside)]
    label_map.paint([body], layers, roughness=0.008, everywhere=True)
    label_map.wall = len(label_map.tissues) - 2
    free = body.axes[:2] - fat - wall
    if random.random() < 0.4:
        long = random.uniform(0.25, 0.8)
        for way in (-1, 1):
            center = body.center + body.turn.T @ (free[0] * 0.5 * way, 0, random.uniform(-0.3, 0.3))
            axes = np.array([free[0] * random.uniform(0.3, 0.45), free[1] * random.uniform(0.55, 0.85), long])
            label_map.paint([Ellipsoid(center, axes, body.turn)], [(0.0, Tissue.LUNG)], roughness=0.02)
    if random.random() < 0.7:
        center = body.center + body.turn.T @ (0, -free[1] * random.uniform(0.5, 0.8), 0)
        wide = random.uniform(0.04, 0.09)
        column = Ellipsoid(center, np.array([wide * 1.2, wide, np.inf]), body.turn)
        label_map.paint(
            [column], [(0.0, Tissue.BONE), (wide * random.uniform(0.1, 0.4), Tissue.MARROW)], roughness=0.01
        )
    for _ in range(random.integers(0, 7)):  # ribs and limb bones
        place = label_map.place(Tissue.SOFT)
        if place is not None:
            wide = random.uniform(0.012, 0.04)
            layers = [(0.0, Tissue.BONE), (wide * 0.4, Tissue.MARROW)]
            label_map.paint(tube(random, place[0], random.uniform(0.2, 0.8), wide, 0.15), layers)


def _head(label_map: LabelMap) -> None:
    """A closed body: skin, fat, a shell of bone, fluid, and soft tissue with an inside of its own."""
    random = label_map.random
    body = _outline(label_map, random.uniform(0.8, 1.2))
    skin, bone, fluid = random.uniform(0.01, 0.04), random.uniform(0.015, 0.03), random.uniform(0.008, 0.02)
    rind = random.uniform(0.015, 0.05)
    depths = np.cumsum([0.0, skin / 2, skin / 2, bone, fluid, rind])
    tissues = Tissue.SOFT, Tissue.FAT, Tissue.BONE, Tissue.FLUID, Tissue.SOFT, Tissue.SOFT
    layers = [(float(depth), tissue) for depth, tissue in zip(depths, tissues, strict=True)]
    label_map.paint([body], layers, roughness=0.008, everywhere=True)
    label_map.wall = len(label_map.tissues) - 2


def _region(label_map: LabelMap) -> None:
    """A region within a body, without air: a few large tissues that meet in smooth faces."""
    random = label_map.random
    count = int(random.integers(3, 8))
    knots = random.uniform(1.5, 5) * label_map.spacing
    highest = np.full(label_map.labels.shape, -np.inf, dtype=np.float32)
    for _ in range(count):
        field = smooth_field(random, label_map.side, knots) + np.float32(0.1) * label_map.rough
        ahead = field > highest
        tissue = _one(random, *4 * [Tissue.SOFT], *2 * [Tissue.FAT], Tissue.FLUID)
        label_map.labels[ahead] = label_map.new(tissue)
        np.maximum(highest, field, out=highest)


_SETTINGS: tuple[Callable[[LabelMap], None], ...] = (_trunk, _head, _region)
_SETTING_SHARES = (0.5, 0.15, 0.35)


_Layers = list[tuple[float, Tissue]]
_Kind = Callable[[np.random.Generator, np.ndarray, float], tuple[list[Piece], _Layers]]


def _structure(label_map: LabelMap, kind: _Kind, size: float, pressed: float) -> None:
    """Add a structure that reaches about `size` from its center.

    Args:
        label_map: where to.
        kind: makes it.
        size: share of the field of view.
        pressed: probability that it ends where another one is already, instead of covering it.
    """
    random = label_map.random
    place = label_map.place()
    if place is None:
        return
    center, parent = place
    pieces, layers = kind(random, center, size)
    choice = random.random()
    if parent <= label_map.wall or choice >= 1 - NESTED:
        only = range(parent, parent + 1)
    else:
        only = range(label_map.wall + 1, (label_map.ground if choice < pressed else len(label_map.tissues)) + 1)
    label_map.paint(pieces, layers, roughness=random.uniform(0, 0.12) * min(size, 0.15), only=only)


def _organ(random: np.random.Generator, center: np.ndarray, size: float) -> tuple[list[Piece], _Layers]:
    """Solid or hollow, with up to three layers."""
    pieces = (ellipsoid if random.random() < 0.5 else blob)(random, center, size)
    layers: _Layers = [(0.0, _one(random, Tissue.SOFT, Tissue.SOFT, Tissue.SOFT, Tissue.FLUID))]
    if random.random() < 0.5:
        layers.append((size * random.uniform(0.06, 0.25), _one(random, Tissue.SOFT, Tissue.FLUID, Tissue.FAT)))
        if random.random() < 0.3:
            layers.append((layers[1][0] + size * 0.12, _one(random, Tissue.SOFT, Tissue.FLUID, Tissue.GAS)))
    return pieces, layers


def _bone(random: np.random.Generator, center: np.ndarray, size: float) -> tuple[list[Piece], _Layers]:
    """A block or a long bone with marrow in it."""
    wide = size * random.uniform(0.15, 0.3)
    pieces = blob(random, center, size / 2) if random.random() < 0.4 else tube(random, center, 2 * size, wide, 0.1)
    return pieces, [(0.0, Tissue.BONE), (wide * random.uniform(0.2, 0.6), Tissue.MARROW)]


def _gut(random: np.random.Generator, center: np.ndarray, size: float) -> tuple[list[Piece], _Layers]:
    """A winding tube with a wall and something in it."""
    wide = max(0.012, size * random.uniform(0.12, 0.25))
    inside = _one(random, Tissue.SOFT, Tissue.FLUID, Tissue.GAS)
    pieces = tube(random, center, size * random.uniform(2, 6), wide, random.uniform(0.3, 1))
    return pieces, [(0.0, Tissue.SOFT), (wide * random.uniform(0.2, 0.5), inside)]


def _vessels(random: np.random.Generator, center: np.ndarray, size: float) -> tuple[list[Piece], _Layers]:
    """A branching tree."""
    return tree(random, center, size, float(np.clip(size * random.uniform(0.06, 0.15), 0.009, 0.035))), [
        (0.0, Tissue.VESSEL)
    ]


def _fascia(random: np.random.Generator, center: np.ndarray, size: float) -> tuple[list[Piece], _Layers]:
    """A thin sheet: muscle, bone, fluid or fat."""
    tissue = _one(random, Tissue.SOFT, Tissue.SOFT, Tissue.BONE, Tissue.FLUID, Tissue.FAT)
    return sheet(random, center, size), [(0.0, tissue)]


def _nodules(random: np.random.Generator, center: np.ndarray, size: float) -> tuple[list[Piece], _Layers]:
    """Several small ones of one kind."""
    tissue = _one(random, Tissue.SOFT, Tissue.SOFT, Tissue.FLUID, Tissue.BONE, Tissue.GAS, Tissue.VESSEL)
    return dots(random, center, size, max(0.015, size * random.uniform(0.08, 0.2))), [(0.0, tissue)]


_KINDS = (_organ, _bone, _gut, _vessels, _fascia, _nodules)
_KIND_SHARES = (0.46, 0.08, 0.12, 0.14, 0.1, 0.1)


def _one(random: np.random.Generator, *tissues: Tissue) -> Tissue:
    return tissues[random.integers(len(tissues))]
