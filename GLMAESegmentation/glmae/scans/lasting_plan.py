"""How labeled scans are prepared, so that a further label seldom changes it.

The first scan is planned for, then the first two, three and so on to eight, 16, 32, ..., and those up to which a class
was not seen before; each time the earlier plan stays where the new one is near enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .classes import ClassTable
from .fingerprint import Measured, gather
from .normalization import Normalization
from .preparation import Preparation, plan_preparation

# So many first scans are looked at one by one: a single unlike one among them counts for little in the median.
EACH = 8
# A voxel may be so much longer or shorter along each axis; augmentation scales by as much.
SPACING = 1.25
# In standard deviations: how much of the values may be clipped more, and how far off the mean may be; a factor.
CLIPPED, MEAN, DEVIATION = 0.25, 0.5, 1.5


@dataclass(frozen=True)
class LastingPlan:
    """A preparation, and the names of the scans that it was planned from."""

    preparation: Preparation
    names: frozenset[str]


def lasting_plan(
    each: Sequence[Measured], classes: ClassTable, max_voxels: int, names: Sequence[str] | None = None
) -> LastingPlan:
    """Plan for some scans.

    Args:
        names: of the scans, in the order in which they were labeled; None: they are in that order.
    """
    if names is not None:
        each = sorted(each, key=lambda one: names.index(one.name))
    plan: LastingPlan | None = None
    for count in _counts(each):
        first = each[:count]
        new = plan_preparation(gather(first, classes), max_voxels)
        if plan is None or not _near(plan.preparation, new, first):
            plan = LastingPlan(new, frozenset(one.name for one in first))
    assert plan is not None
    return plan


def _counts(each: Sequence[Measured]) -> Iterator[int]:
    seen: set[int] = set()
    for count, one in enumerate(each, start=1):
        held = set(one.counts or ())
        if count <= EACH or count & (count - 1) == 0 or held - seen:  # a power of two
            yield count
        seen |= held


def _near(plan: Preparation, new: Preparation, each: Sequence[Measured]) -> bool:
    ratios = np.array(plan.spacing) / np.array(new.spacing)
    return (
        bool(np.all(np.maximum(ratios, 1 / ratios) <= SPACING))
        and all(np.array_equal(plan.axes.order(one.grid), new.axes.order(one.grid)) for one in each)
        and all(map(_covers, plan.normalization, new.normalization))
    )


def _covers(plan: Normalization, new: Normalization) -> bool:
    if plan.kind != new.kind or plan.kind != "ct":
        return plan.kind == new.kind
    return (
        plan.low <= new.low + CLIPPED * new.std
        and plan.high >= new.high - CLIPPED * new.std
        and abs(plan.mean - new.mean) <= MEAN * new.std
        and 1 / DEVIATION <= plan.std / new.std <= DEVIATION
    )
