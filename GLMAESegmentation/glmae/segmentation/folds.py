"""Which labeled scans are held out of which training, so that each is scored by a model that never saw it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Random groupings that are tried to keep the classes spread over the folds.
GROUPINGS = 64


@dataclass(frozen=True)
class Fold:
    """One training of the cross-validation.

    Attributes:
        training: indices of the scans that it is trained on.
        held_out: indices of the scans that it is scored on.
    """

    training: tuple[int, ...]
    held_out: tuple[int, ...]


def plan_folds(annotated: Sequence[Sequence[bool]], count: int, seed: int) -> tuple[Fold, ...]:
    """Hold out each scan once, a `count`-th of them at a time, so that as many classes as can be are trained on.

    Args:
        annotated: for each scan, for each class, whether it was drawn in it.
        count: number of folds, from 2 to the number of scans.
        seed: of the run.

    Returns:
        Of random groupings the one in which most (scan, class) pairs can be scored; the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    edges = [round(part * len(annotated) / count) for part in range(count + 1)]

    def grouping() -> tuple[Fold, ...]:
        order = [int(scan) for scan in rng.permutation(len(annotated))]
        return tuple(
            Fold(tuple(sorted(order[:low] + order[high:])), tuple(sorted(order[low:high])))
            for low, high in itertools.pairwise(edges)
        )

    def scored(folds: tuple[Fold, ...]) -> int:
        return sum(
            drawn and learned
            for fold in folds
            for scan in fold.held_out
            for drawn, learned in zip(annotated[scan], learned_classes(annotated, fold.training), strict=True)
        )

    return max((grouping() for _ in range(GROUPINGS)), key=scored)


def learned_classes(annotated: Sequence[Sequence[bool]], training: Sequence[int]) -> list[bool]:
    """For each class, whether one of the training scans holds it; what none holds cannot be scored."""
    return [any(annotated[scan][number] for scan in training) for number in range(len(annotated[0]))]
