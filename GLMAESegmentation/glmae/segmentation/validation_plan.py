"""How much of a run goes into cross-validation, and into which folds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..files import write_json
from .folds import GOOD_SCANS, Fold, plan_folds

# Most of the time for the folds goes into training.
SCORING_SHARE = 0.4


@dataclass(frozen=True)
class ValidationPlan:
    """The cross-validation of a run.

    Attributes:
        folds: none where there is no cross-validation.
        steps: of each fold; exclusive with `seconds`.
        seconds: for each fold, scoring included.
        scoring_seconds: the part of it for scoring.
        scan_seconds: estimate for segmenting and scoring a scan; 0 where time does not matter.
        without: why there are no folds, or that nothing could be scored, in one sentence.
    """

    folds: tuple[Fold, ...]
    steps: int | None
    seconds: float | None
    scoring_seconds: float
    scan_seconds: float
    without: str

    @property
    def all_seconds(self) -> float:
        """For all folds together; 0 where time does not matter."""
        return (self.seconds or 0.0) * len(self.folds)

    def write(self, path: Path) -> None:
        """Store it: a resumed run has the same folds."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Path) -> ValidationPlan | None:
        """The inverse of `write`; None if there is none yet."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return ValidationPlan(**content | {"folds": tuple(map(Fold.from_json, content["folds"]))})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def plan_steps(annotated: Sequence[Sequence[bool]], share: float, steps: int, seed: int) -> ValidationPlan:
    """For a run of so many steps; the folds take `share` of that number.

    Args:
        annotated: for each scan, for each class, whether it was drawn in it.
        share: `FinetuneConfig.validation`.
        steps: of the run itself.
        seed: of the run.
    """
    total = round(share * steps)
    folds = plan_folds(annotated, total, seed)
    each = total // len(folds) if folds else None
    return ValidationPlan(folds, each, None, 0.0, 0.0, _without(len(annotated), share, f"{steps} steps are"))


def plan_seconds(
    annotated: Sequence[Sequence[bool]],
    share: float,
    seconds: float,
    step_seconds: float,
    scan_seconds: float,
    seed: int,
) -> ValidationPlan:
    """For a run of so many seconds, of which the folds take `share`, scoring included.

    Args:
        annotated: for each scan, for each class, whether it was drawn in it.
        share: `FinetuneConfig.validation`.
        seconds: of the whole run.
        step_seconds: of a training step.
        scan_seconds: of segmenting and scoring a scan.
        seed: of the run.
    """
    total, scans = share * seconds, len(annotated)
    without = _without(scans, share, f"{seconds / 60:.3g} minutes are")
    # Each fold segments the scans that it holds out, and one that it was trained on. A single fold holds out fewer.
    scored = int(SCORING_SHARE * total / scan_seconds)
    for scorings in (scans + 2, GOOD_SCANS + 1):
        steps = int((total - min(scored, scorings) * scan_seconds) / step_seconds)
        folds = plan_folds(annotated, steps, seed, timed=True)
        if folds:
            break
    if folds and scored < 2 * len(folds):
        folds = folds[:1]
    if not folds or scored < 2:
        return ValidationPlan((), None, None, 0.0, scan_seconds, without)
    most = scored // len(folds) - 1
    folds = tuple(replace(fold, held_out=fold.held_out[:most]) for fold in folds)
    scoring = scan_seconds * (1 + max(len(fold.held_out) for fold in folds))
    return ValidationPlan(folds, None, total / len(folds), scoring, scan_seconds, without)


def _without(scans: int, share: float, length: str) -> str:
    if scans < 2:
        return "There is one labelled scan and none to test on: how well the model does is not known; label another."
    if share == 0:
        return "No scans were held out (validation is 0): how well the model does is not known."
    return f"{length} too few to hold out scans: how well the model does is not known; train longer."
