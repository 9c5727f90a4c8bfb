"""A training run: the model of all labeled scans, a look at its result, and held-out scores if they are asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np

from ..errors import RequestError
from ..job import Job
from ..run_folder import RunFolder
from ..schedule import RESERVE_SECONDS, Schedule
from .class_slabs import class_numbers
from .cross_validation import FoldResult, Trainer, cross_validate, held_out_scores, plan_folds
from .labeled_cases import LabeledCases, check_training
from .preview import Previews
from .scan_maps import OVERLAP, scan_maps
from .training import Training

# Of the minutes, at most: for segmenting a training scan at the end, and of the rest for segmenting held-out ones.
LARGEST_CHECK, LARGEST_SCORING = 0.1, 0.4
# Reading the scan, and bringing the classes to its grid, beside the windows.
SECONDS_A_SCAN = 0.5


@dataclass(frozen=True)
class RunPlan:
    """How long a run may take, and what of it is measured.

    Attributes:
        steps: of the model, and of each fold.
        minutes: instead: for everything, in equal parts for the model and each fold.
        folds: number of further trainings, each without a part of the scans, on which it is scored; 0 for none.
        finish: take the training as it was when it was interrupted, and the folds that were finished.
    """

    steps: int | None
    minutes: float | None
    folds: int = 0
    seed: int = 0
    finish: bool = False

    def check(self, scans: int) -> None:
        """Whether a run on so many labeled scans can have it.

        Raises:
            RequestError: it cannot.
        """
        if (self.steps is None) == (self.minutes is None):
            raise RequestError("give either the number of steps or the minutes")
        if self.folds and not 2 <= self.folds <= scans:
            raise RequestError(f"--folds {self.folds}: choose a number from 2 to that of the labeled scans ({scans})")


def train_and_score(
    run: RunFolder, labeled: LabeledCases, train: Trainer, plan: RunPlan, began: float, job: Job
) -> tuple[Training, dict[str, Any]]:
    """Train on all labeled scans, check the result, and cross-validate; each stage goes on where it was interrupted.

    The model is that of the first stage: the folds decide what is said about it, not its weights. They come last, so
    that a run that is stopped early has a model.

    Args:
        began: `time.monotonic` when the run began, as if all its sittings had followed each other.

    Returns:
        The finished training, and `scores` of model.json.

    Raises:
        Stopped: the user wants to stop.
        GLMAEError: the loss is not finite any more.
    """
    run.note_seconds(time.monotonic() - began)
    everything = range(len(labeled.store))
    folds = plan_folds(labeled.annotated, plan.folds, plan.seed) if plan.folds else ()
    training = train(everything, Schedule(plan.steps, plan.minutes))
    deadline, scan_seconds = None, 0.0
    if plan.minutes is not None:
        deadline = began + 60 * plan.minutes - RESERVE_SECONDS
        scan_seconds = _scan_seconds(labeled, training)
        left = max(1.0, deadline - time.monotonic())
        left -= min(LARGEST_CHECK * left, scan_seconds)
        if folds:
            scan_seconds = min(scan_seconds, LARGEST_SCORING * left / len(everything))
            left -= scan_seconds * len(everything)
        training.schedule = Schedule(minutes=left / (1 + len(folds)) / 60)
    previews = Previews(run.unfinished, labeled.model, job)
    try:
        if plan.finish:
            training.restore(run.checkpoint)
            job.events.info(f"Finished early, after step {training.schedule.done}.")
        else:
            training.run(run.checkpoint, job, previews.answer)
        training.end()
        until = None
        if plan.minutes is not None and deadline is not None:
            until = min(deadline, time.monotonic() + LARGEST_CHECK * 60 * plan.minutes)
        check = check_training(labeled, training, _telling(labeled), until, job.should_stop)
        remark = check.failure or check.not_checked
        if remark is not None:
            job.events.warning(remark)
        results = cross_validate(
            run.unfinished / "cross-validation",
            folds,
            labeled.annotated,
            train,
            labeled.score,
            steps=plan.steps,
            deadline=deadline,
            scoring_seconds=scan_seconds,
            finish=plan.finish,
            between_steps=previews.answer,
            job=job,
        )
    finally:
        run.note_seconds(time.monotonic() - began)
    scores = held_out_scores(results, labeled.classes.names)
    scores |= {"note": _note(scores, results, plan, len(everything))}
    if plan.folds:
        job.events.emit("score", message=scores["note"], **{key: scores[key] for key in ("mean_dice", "sd", "classes")})
    return training, scores | {"failure": check.failure, "not_checked": check.not_checked}


def _telling(labeled: LabeledCases) -> int:
    """The scan that the finished model is tried on: of those in which most classes were drawn, the smallest."""
    drawn = [sum(annotated) for annotated in labeled.annotated]
    return min(range(len(drawn)), key=lambda index: (-drawn[index], labeled.store.image(index).size))


def _scan_seconds(labeled: LabeledCases, training: Training) -> float:
    """Estimate for segmenting and scoring one of the scans, in the mean, a little more than likely."""
    crop, device = training.config.crop, training.device
    window = np.zeros((training.network.backbone.config.channels, *crop), dtype=np.float32)
    for _ in range(2):  # the first one also allocates memory and chooses kernels
        began = time.monotonic()
        class_numbers(training.network, scan_maps(training.network, window, crop, device), device)
    seconds = time.monotonic() - began
    shapes = [labeled.store.image(index).shape[1:] for index in range(len(labeled.store))]
    return 1.3 * seconds * float(np.mean([_windows(shape, crop) for shape in shapes])) + SECONDS_A_SCAN


def _windows(shape: Sequence[int], crop: Sequence[int]) -> int:
    return prod(max(1, ceil(s / (p * (1 - OVERLAP)) - 1)) for s, p in zip(shape, crop, strict=True))


def _note(scores: dict[str, Any], results: Sequence[FoldResult], plan: RunPlan, scans: int) -> str:
    """The score in a sentence, or why there is none."""
    if scores["mean_dice"] is not None:
        spread = "" if scores["sd"] is None else f" ± {scores['sd']:.2f} (standard deviation)"
        return (
            f"Dice {scores['mean_dice']:.2f}{spread} on {scores['scans']} of {scans} labeled scans, "
            "each segmented by a model that had not seen it."
        )
    if not plan.folds:
        return "Not measured: no scans were held out (--folds)."
    if plan.finish and len(results) < plan.folds:
        return "Not measured: the run was ended before any held-out scan was scored."
    return "Not measured: no training without some of the scans could be finished and scored; train longer."
