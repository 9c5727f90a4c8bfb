"""Trainings without some of the labeled scans, and how well they segment those: plain held-out Dice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GLMAEError, Stopped, StorageError
from ..events import Events
from ..files import write_json
from ..schedule import Schedule
from .evaluation import Score
from .folds import Fold, learned_classes
from .labelled_cases import LabelledCases, checking
from .preview import Previews
from .training import Training

STAGE = "cross-validation"
RESULT = "scores.json"

# Gives the training on the scans of these indices, not begun.
Trainer = Callable[[Sequence[int], Schedule], Training]


@dataclass(frozen=True)
class FoldResult:
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
    labelled: LabelledCases,
    train: Trainer,
    *,
    steps: int | None,
    deadline: float | None,
    scoring_seconds: float,
    finish: bool,
    events: Events,
    should_stop: Callable[[], bool],
    previews: Previews,
) -> list[FoldResult]:
    """Train and score each fold; those that are in `folder` already are taken from there.

    Args:
        folder: of the cross-validation, inside the run folder.
        folds: which scans are held out.
        labelled: the scans.
        train: gives the training of a fold.
        steps: of each training; None: as many as fit into an equal share of the time until `deadline`.
        deadline: `time.monotonic` at which all has to be over.
        scoring_seconds: what segmenting and scoring a held-out scan is expected to take.
        finish: begin no fold; those that are in `folder` are all.
        events: where to report to.
        should_stop: asked after every step and every window.
        previews: answered between two steps.

    Returns:
        The results of the folds that were trained; one that cannot be is named in a warning, one for which there is
        no time left is left out.

    Raises:
        Stopped: `should_stop` said so; calling again goes on.
    """
    results = []
    for number, fold in enumerate(folds):
        place = folder / f"fold-{number + 1}"
        result = _stored(place, fold)
        if result is None:
            began, end = time.monotonic(), None
            if deadline is not None:
                end = began + (deadline - began) / (len(folds) - number)
            if finish or (end is not None and end <= began):
                continue
            minutes = None
            if end is not None:
                minutes = max(1.0, end - began - scoring_seconds * len(fold.held_out)) / 60
            try:
                training = train(fold.training, Schedule(steps if end is None else None, minutes))
                stop = previews.between_steps(training, should_stop)
                checkpoint = place / "checkpoint.safetensors"
                training.run(checkpoint, events, stop, STAGE, fold=number + 1, folds=len(folds))
                counted = learned_classes(labelled.annotated, fold.training)
                scores = labelled.score(fold.held_out, training, counted, checking(end, should_stop))
            except (Stopped, StorageError):
                raise
            except GLMAEError as error:
                # A score is not worth a run: the model of all labeled scans is there already.
                events.warning(f"Fold {number + 1} of {len(folds)} is left out: {error}.")
                continue
            result = FoldResult(training.schedule.done, tuple(scores))
            write_json(place / RESULT, {"fold": asdict(fold), **asdict(result)})
            checkpoint.unlink(missing_ok=True)  # what is left of a fold is its scores: checkpoints are large
        results.append(result)
        mean = mean_and_deviation(result.scores)["dice"]
        events.emit("fold", fold=number + 1, folds=len(folds), steps=result.steps, mean_dice=mean)
    return results


def held_out_scores(results: Sequence[FoldResult], names: Sequence[str]) -> dict[str, Any]:
    """What `scores` of model.json says of held-out scans.

    Args:
        results: of the folds; empty for none.
        names: of the classes.

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
    scans: dict[str, list[float]] = {}
    for row in rows:
        if row.dice is not None:
            scans.setdefault(row.case, []).append(row.dice)
    means = [float(np.mean(values)) for values in scans.values()]
    return {
        "dice": round(float(np.mean(means)), 4) if means else None,
        "sd": round(float(np.std(means, ddof=1)), 4) if len(means) > 1 else None,
        "scans": len(means),
    }


def _stored(place: Path, fold: Fold) -> FoldResult | None:
    try:
        content: dict[str, Any] = json.loads((place / RESULT).read_text(encoding="utf-8"))
        same = Fold(*(tuple(content["fold"][part]) for part in ("training", "held_out"))) == fold
        return FoldResult(content["steps"], tuple(Score(**row) for row in content["scores"])) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
