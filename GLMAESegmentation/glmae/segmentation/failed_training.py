"""Finds training that failed: a model that finds nothing, or one thing everywhere, even in its own training scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..devices import is_out_of_memory
from .evaluation import Score
from .labeled_cases import LabeledCases
from .training import Training

REMEDY = "train longer (--minutes), check that the labels lie on their structures, or try another --seed"


@dataclass(frozen=True)
class TrainingCheck:
    """Whether a model works on a scan that it was trained on.

    Attributes:
        failure: what is wrong, one sentence; None for nothing.
        not_checked: why nothing can be said, one sentence; None where it was checked.
    """

    failure: str | None = None
    not_checked: str | None = None


def check_training(labeled: LabeledCases, training: Training, index: int, check: Callable[[], None]) -> TrainingCheck:
    """Segment a training scan with the averaged weights.

    Args:
        labeled: the scans.
        training: a finished one.
        index: of the scan to look at.
        check: called between windows; TimeoutError ends the check.
    """
    names = labeled.classes.names
    try:
        check()
        prediction = labeled.segment(index, training, check)
        scores = labeled.compare(index, prediction, [True] * len(names))
    except TimeoutError:
        return _not_checked("the time was too short to segment one of its scans")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _not_checked("there is not enough memory to segment one of its scans")
    return TrainingCheck(_failure(scores, set(np.unique(sitk.GetArrayViewFromImage(prediction)).tolist()), names))


def _not_checked(reason: str) -> TrainingCheck:
    return TrainingCheck(not_checked=f"Not checked whether the training failed: {reason}. Look at the results.")


def _failure(scores: Sequence[Score], found: set[int], names: Sequence[str]) -> str | None:
    if found == {0}:
        return f"training failed: the model finds nothing, not even in a scan that it was trained on; {REMEDY}"
    if len(found) == 1:
        return f"training failed: the model takes the whole of a scan for '{names[found.pop() - 1]}'; {REMEDY}"
    lost = [
        name
        for number, name in enumerate(names, start=1)
        # Drawn there, so that the volume can be compared, but in no voxel of the result.
        if number not in found and any(score.name == name and score.volume_error is not None for score in scores)
    ]
    if lost:
        which = ", ".join(map(repr, lost))
        return f"training failed for {which}: not found even in a scan that the model was trained on; {REMEDY}"
    return None
