"""Which labelled scans are held out from which model, so that each is scored by one that never saw it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# A model of fewer steps says nothing about one of hundreds. One of 120 says more than two of 60, and more steps than
# 250 are better spent on more folds (docs/method.md).
FEWEST_STEPS, ENOUGH_STEPS, GOOD_STEPS = 25, 120, 250
# Where the folds' time is taken from the model's: what folds of fewer than 50 steps said was mostly withheld
# (docs/method.md), and beginning and ending a fold takes the time of up to ten.
FEWEST_TIMED_STEPS = 60
MOST_FOLDS = 5
# So many folds hold out each scan once. Of fewer, each holds out a quarter, so that it resembles the model, but two
# scans where there are four, because one scan says little of others.
FOLDS_FOR_ALL, GOOD_SCANS = 4, 2
# Groupings that are tried to keep the classes spread over the folds.
_GROUPINGS = 64


@dataclass(frozen=True)
class Fold:
    """One model of the cross-validation.

    Attributes:
        training: indices of the scans that it is trained on.
        held_out: indices of the scans that it is scored on.
        part: share of the scans left for training that it is given: 1, or 0.5 for a point of the learning curve.
    """

    training: tuple[int, ...]
    held_out: tuple[int, ...]
    part: float = 1.0

    def seen(self, number: int) -> int:
        """The training scan on which the fold with this number (from 0) is tried, another one in each."""
        return self.training[number % len(self.training)]

    @staticmethod
    def from_json(content: dict[str, Any]) -> Fold:
        """From what `asdict` gave."""
        return Fold(tuple(content["training"]), tuple(content["held_out"]), float(content["part"]))


def plan_folds(annotated: Sequence[Sequence[bool]], steps: int, seed: int, *, timed: bool = False) -> tuple[Fold, ...]:
    """Choose the folds: leave-one-out where the scans are few and the steps suffice, else few scans held out.

    Args:
        annotated: for each scan, for each class, whether it was drawn in it.
        steps: what all the folds together may take.
        seed: of the run.
        timed: whether these steps are lost to the model itself, so that they must be worth it.

    Returns:
        The folds; none with one scan or too few steps. Where steps are left over, each fold comes a second time with
        half of its training scans, for the learning curve.
    """
    scans = len(annotated)
    fewest = FEWEST_TIMED_STEPS if timed else FEWEST_STEPS
    if scans < 2 or steps < fewest:
        return ()
    count = min(scans, MOST_FOLDS, max(1, steps // GOOD_STEPS, min(2, steps // ENOUGH_STEPS)))
    edges = [round(part * scans / count) for part in range(count + 1)]
    most = scans if count >= FOLDS_FOR_ALL else max(scans // 4, min(GOOD_SCANS, scans // 2))
    spans = [(low, min(high, low + most)) for low, high in itertools.pairwise(edges)]
    folds = _best(annotated, spans, seed)
    if steps // (2 * count) < GOOD_STEPS or min(len(fold.training) for fold in folds) < 2:
        return folds
    rng = np.random.default_rng(seed)
    halves = [sorted(rng.permutation(fold.training)[: len(fold.training) // 2].tolist()) for fold in folds]
    return folds + tuple(Fold(tuple(half), fold.held_out, 0.5) for half, fold in zip(halves, folds, strict=True))


def learnt_classes(annotated: Sequence[Sequence[bool]], training: Sequence[int]) -> list[bool]:
    """For each class, whether one of the training scans holds it; what none holds cannot be scored."""
    return [any(annotated[scan][number] for scan in training) for number in range(len(annotated[0]))]


def _best(annotated: Sequence[Sequence[bool]], spans: Sequence[tuple[int, int]], seed: int) -> tuple[Fold, ...]:
    """The random grouping in which most (scan, class) pairs can be scored: a fold must not hold out all of a class."""
    rng = np.random.default_rng(seed)
    tried = []
    for _ in range(_GROUPINGS):
        order = [int(scan) for scan in rng.permutation(len(annotated))]
        folds = tuple(
            Fold(tuple(sorted(order[:low] + order[high:])), tuple(sorted(order[low:high]))) for low, high in spans
        )
        scored = sum(
            drawn and learnt
            for fold in folds
            for scan in fold.held_out
            for drawn, learnt in zip(annotated[scan], learnt_classes(annotated, fold.training), strict=True)
        )
        tried.append((scored, folds))
    return max(tried, key=lambda entry: entry[0])[1]
