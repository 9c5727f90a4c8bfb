"""Finds training that failed: a model that finds nothing, or one thing everywhere, even in its own training scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..memory import is_out_of_memory
from .evaluation import Score
from .labelled_cases import LabelledCases
from .training import Training

REMEDY = "train longer (--minutes), check that the labels lie on their structures, or try another --seed"


@dataclass(frozen=True)
class TrainingCheck:
    """How a model segments scans that it was trained on.

    Attributes:
        scores: of these scans; `case` is the index of the scan.
        failure: what is wrong, one sentence; None for nothing.
    """

    scores: tuple[Score, ...]
    failure: str | None


def check_training(
    labelled: LabelledCases, training: Training, indices: Sequence[int], check: Callable[[], None]
) -> TrainingCheck:
    """Segment some of the training scans with the averaged weights.

    Args:
        labelled: the scans.
        training: a finished one.
        indices: of the scans to look at.
        check: called between windows; TimeoutError ends the check with what is known by then.
    """
    names = labelled.classes.names
    scores: list[Score] = []
    found: set[int] = set()
    constant = True
    for index in indices:
        try:
            check()
            prediction = labelled.segment(index, training, check)
        except TimeoutError:
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        values = set(np.unique(sitk.GetArrayViewFromImage(prediction)).tolist())
        found |= values
        constant = constant and len(values) == 1
        scores += labelled.compare(index, prediction, [True] * len(names))
    return TrainingCheck(tuple(scores), _failure(scores, found, constant, names) if scores else None)


def _failure(scores: Sequence[Score], found: set[int], constant: bool, names: Sequence[str]) -> str | None:
    if found == {0}:
        return f"training failed: the model finds nothing, not even in the scans that it was trained on; {REMEDY}"
    if constant:
        what = " or ".join(repr(names[value - 1]) for value in sorted(found - {0}))
        return f"training failed: the model takes the whole of each scan for {what}; {REMEDY}"
    lost = [
        name
        for number, name in enumerate(names, start=1)
        # Drawn there, so that the volume can be compared, but in no voxel of the result.
        if number not in found and any(score.name == name and score.volume_error is not None for score in scores)
    ]
    if lost:
        which = ", ".join(map(repr, lost))
        return f"training failed for {which}: not found even in the scans that the model was trained on; {REMEDY}"
    return None
