"""Trainings without some of the labeled scans, and how well they segment those: plain held-out Dice."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GLMAEError, Stopped, StorageError
from ..files import write_json
from ..job import Job
from ..json_record import JsonRecord
from ..schedule import Schedule
from .evaluation import Score, case_means
from .training import Training

STAGE = "cross-validation"
RESULT = "scores.json"
# Random groupings that are tried to keep the classes spread over the folds.
GROUPINGS = 64

# Makes a training on the scans of these indices, in which no step is taken yet.
Trainer = Callable[[Sequence[int], Schedule], Training]
# Scores a training on the scans of these indices, of the classes that count, until a time (see `LabeledCases.score`).
Scorer = Callable[[Sequence[int], Training, Sequence[bool], float | None, Callable[[], bool]], list[Score]]


@dataclass(frozen=True)
class Fold(JsonRecord):
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


@dataclass(frozen=True)
class FoldResult(JsonRecord):
    """What one fold gave.

    Attributes:
        steps: length of its training.
        scores: of the held-out scans, of the classes that could be learned; `case` is the index of the scan.
    """

    steps: int
    scores: tuple[Score, ...]


def cross_validate(
    folder: Path,
    folds: Sequence[Fold],
    annotated: Sequence[Sequence[bool]],
    train: Trainer,
    score: Scorer,
    *,
    steps: int | None,
    deadline: float | None,
    scoring_seconds: float,
    finish: bool,
    between_steps: Callable[[Training], None],
    job: Job,
) -> list[FoldResult]:
    """Train and score each fold; those that are in `folder` already are taken from there.

    Args:
        annotated: for each scan, for each class, whether it was drawn in it.
        steps: of each training; None: as many as fit into an equal share of the time until `deadline`.
        deadline: `time.monotonic` at which all has to be over.
        scoring_seconds: what segmenting and scoring a held-out scan is expected to take.
        finish: begin no fold; those that are in `folder` are all.

    Returns:
        The results of the folds that were trained; one that cannot be is named in a warning, one for which there is
        no time left is left out.

    Raises:
        Stopped: the user wants to stop; calling again goes on.
    """
    results = []
    for number, fold in enumerate(folds):
        place = folder / f"fold-{number + 1}"
        result = _stored(place, fold)
        if result is None:
            if finish or (deadline is not None and deadline <= time.monotonic()):
                continue
            try:
                training, end = train(fold.training, Schedule(steps, None if deadline is None else 1.0)), None
                if deadline is not None:  # from here on: fitting the head takes seconds
                    now = time.monotonic()
                    end = now + (deadline - now) / (len(folds) - number)
                    left = end - now - scoring_seconds * len(fold.held_out)
                    training.schedule = Schedule(minutes=max(1.0, left) / 60)
                checkpoint = place / "checkpoint.safetensors"
                training.run(checkpoint, job, between_steps, STAGE, fold=number + 1, folds=len(folds))
                counted = learned_classes(annotated, fold.training)
                scores = score(fold.held_out, training, counted, end, job.should_stop)
            except (Stopped, StorageError):
                raise
            except GLMAEError as error:
                # A score is not worth a run: the model of all labeled scans is there already.
                job.events.warning(f"Fold {number + 1} of {len(folds)} is left out: {error}.")
                continue
            result = FoldResult(training.schedule.done, tuple(scores))
            write_json(place / RESULT, {"fold": fold.to_json(), **result.to_json()})
            checkpoint.unlink(missing_ok=True)  # what is left of a fold is its scores: checkpoints are large
        results.append(result)
        mean = mean_and_deviation(result.scores)["dice"]
        job.events.emit("fold", fold=number + 1, folds=len(folds), steps=result.steps, mean_dice=mean)
    return results


def held_out_scores(results: Sequence[FoldResult], names: Sequence[str]) -> dict[str, Any]:
    """What `scores` of model.json says of held-out scans.

    Args:
        results: of the folds; empty for none.

    Returns:
        `mean_dice` and `sd` over the held-out scans, each being the mean over its classes, their number `scans`, and
        `classes` ({name: {`dice`, `sd`, `scans`}}), null where nothing was scored; `cases`, a row for each scan and
        class; `fold_steps`, the length of each training.
    """
    rows = sorted((row for result in results for row in result.scores), key=lambda row: int(row.case))
    whole = mean_and_deviation(rows)
    return {
        "mean_dice": whole.pop("dice"),
        **whole,
        "classes": {name: mean_and_deviation(row for row in rows if row.name == name) for name in names},
        # Named as in `training_cases` of model.json.
        "cases": [{"alias": f"case-{int(row.case) + 1:02d}", "class": row.name, "dice": row.dice} for row in rows],
        "fold_steps": [result.steps for result in results],
    }


def mean_and_deviation(rows: Iterable[Score]) -> dict[str, Any]:
    """Mean and standard deviation over scans of the mean Dice over each scan's classes, and the number of scans."""
    means = case_means(rows)
    return {
        "dice": round(float(np.mean(means)), 4) if means else None,
        "sd": round(float(np.std(means, ddof=1)), 4) if len(means) > 1 else None,
        "scans": len(means),
    }


def _stored(place: Path, fold: Fold) -> FoldResult | None:
    try:
        content = json.loads((place / RESULT).read_text(encoding="utf-8"))
        return FoldResult.from_json(content) if Fold.from_json(content["fold"]) == fold else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
