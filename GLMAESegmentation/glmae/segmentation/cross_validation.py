"""Models trained without some of the labelled scans, and how well they segment those: the honest part of the score."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import GLMAEError, Stopped, StorageError
from ..events import Events
from ..files import write_json
from ..schedule import Schedule
from .evaluation import Score, report
from .folds import Fold, learnt_classes
from .labelled_cases import LabelledCases
from .preview import Previews
from .training import Training
from .validation_plan import ValidationPlan

STAGE = "cross-validation"
RESULT = "scores.json"

# Gives the training on the scans of these indices, not begun.
Trainer = Callable[[Sequence[int], Schedule], Training]


@dataclass(frozen=True)
class FoldResult:
    """What one fold gave.

    Attributes:
        fold: which scans.
        steps: length of its training.
        held_out: scores of the held-out scans, of the classes that could be learnt; `case` is the index of the scan.
        seen: scores of one of the scans that it was trained on, which tell how far its training came.
        seconds: how long it took, scoring included.
    """

    fold: Fold
    steps: int
    held_out: tuple[Score, ...]
    seen: tuple[Score, ...]
    seconds: float


def cross_validate(
    folder: Path,
    plan: ValidationPlan,
    labelled: LabelledCases,
    train: Trainer,
    *,
    events: Events,
    should_stop: Callable[[], bool],
    previews: Previews,
    deadline: float | None = None,
    finish: bool = False,
) -> list[FoldResult]:
    """Train and score each fold; those that are in `folder` already are taken from there.

    Args:
        folder: of the cross-validation, inside the run folder.
        plan: which folds, and how long each may take.
        labelled: the scans.
        train: gives the training of a fold.
        events: where to report to.
        should_stop: asked after every step and every window.
        previews: answered between two steps.
        deadline: `time.monotonic` at which it has to be over; what came before may have taken longer than planned.
        finish: begin no fold; those that are in `folder` are all.

    A fold that cannot be trained is named in a warning and left out.

    Raises:
        Stopped: `should_stop` said so; calling again goes on.
    """
    results = []
    for number, fold in enumerate(plan.folds):
        place = folder / f"fold-{number + 1}"
        result = _finished(place, fold)
        if result is None:
            seconds = _seconds(plan, deadline, len(plan.folds) - number)
            if finish or (seconds is not None and seconds <= 0):
                continue
            try:
                result = _run_fold(place, plan, number, seconds, labelled, train, events, should_stop, previews)
            except (Stopped, StorageError):
                raise
            except GLMAEError as error:
                # A score is not worth a run: the model of all labelled scans is there already.
                events.warning(f"Part {number + 1} of {len(plan.folds)} of the held-out score is left out: {error}.")
                continue
            _write(place, result)
        results.append(result)
        dice = report(result.held_out)["mean_dice"]
        events.emit(
            "fold",
            fold=number + 1,
            folds=len(plan.folds),
            steps=result.steps,
            mean_dice=None if dice is None else round(dice, 4),
        )
    return results


def _seconds(plan: ValidationPlan, deadline: float | None, folds: int) -> float | None:
    """For the next of so many folds, scoring included; None: as many as its steps take."""
    if plan.seconds is None or deadline is None:
        return plan.seconds
    return min(plan.seconds, (deadline - time.monotonic()) / folds)


def _run_fold(
    place: Path,
    plan: ValidationPlan,
    number: int,
    seconds: float | None,
    labelled: LabelledCases,
    train: Trainer,
    events: Events,
    should_stop: Callable[[], bool],
    previews: Previews,
) -> FoldResult:
    fold, began = plan.folds[number], time.monotonic()
    minutes = None if seconds is None else max(1.0, seconds - plan.scoring_seconds) / 60
    training = train(fold.training, Schedule(plan.steps, minutes))
    stop = previews.between_steps(training, should_stop)
    training.run(place / "checkpoint.safetensors", events, stop, STAGE, fold=number + 1, folds=len(plan.folds))
    check = checking(None if seconds is None else began + seconds, should_stop)
    learnt = learnt_classes(labelled.annotated, fold.training)
    seen = labelled.score([fold.seen(number)], training, learnt, check)
    held_out = labelled.score(fold.held_out, training, learnt, check)
    spent = round(time.monotonic() - began, 2)
    return FoldResult(fold, training.schedule.done, tuple(held_out), tuple(seen), spent)


def checking(deadline: float | None, should_stop: Callable[[], bool]) -> Callable[[], None]:
    """What is called between windows: raises Stopped if the user wants to, TimeoutError after the deadline."""

    def check() -> None:
        if should_stop():
            raise Stopped("stopped while labelled scans were segmented; add --resume to go on")
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError

    return check


def _write(place: Path, result: FoldResult) -> None:
    write_json(place / RESULT, asdict(result))
    # What is left of a fold is its scores: checkpoints are large.
    (place / "checkpoint.safetensors").unlink(missing_ok=True)


def _finished(place: Path, fold: Fold) -> FoldResult | None:
    try:
        content: dict[str, Any] = json.loads((place / RESULT).read_text(encoding="utf-8"))
        stored = Fold.from_json(content["fold"])
        held_out, seen = (tuple(Score(**entry) for entry in content[kind]) for kind in ("held_out", "seen"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return FoldResult(stored, content["steps"], held_out, seen, content["seconds"]) if stored == fold else None
