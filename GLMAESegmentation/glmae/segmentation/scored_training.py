"""A training run with its score: the model of all scans, a look at its result, and models without some of the scans."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..events import Events
from ..run_folder import RunFolder
from ..schedule import RESERVE_SECONDS, Schedule, minutes_left
from .configuration import FinetuneConfig
from .cross_validation import Trainer, checking, cross_validate
from .failed_training import check_training
from .held_out_score import held_out_score, summary, withheld
from .labelled_cases import LabelledCases
from .preview import Previews
from .training import Training
from .trial import run_trial
from .validation_plan import ValidationPlan, plan_seconds, plan_steps

# Of the minutes, for segmenting training scans at the end.
LARGEST_CHECK = 0.1
# A run of fewer steps is over before its time can be estimated.
TRIAL_FROM = 50


@dataclass(frozen=True)
class ScoredTraining:
    """A finished training, and `scores` of model.json."""

    training: Training
    scores: dict[str, Any]


def train_and_score(
    run: RunFolder,
    labelled: LabelledCases,
    config: FinetuneConfig,
    train: Trainer,
    *,
    steps: int | None,
    minutes: float | None,
    began: float,
    finish: bool = False,
    events: Events,
    should_stop: Callable[[], bool],
) -> ScoredTraining:
    """Train on all labelled scans, check the result, and cross-validate; each stage goes on where it was interrupted.

    The model is that of the first stage: the folds decide what is said about it, not its weights. They come last, so
    that a run that is stopped early has a model.

    Args:
        run: folder of the run, begun.
        labelled: the scans.
        config: of the run.
        train: gives a training on some of the scans.
        steps: of the model; the folds' come on top.
        minutes: for everything since `began`.
        began: `time.monotonic` when the run began, less the seconds of earlier sittings.
        finish: take the training as it was when it was interrupted, and the folds that were finished, instead of going
            on.
        events: where to report to.
        should_stop: asked after every step and every window.

    Raises:
        Stopped: `should_stop` said so.
        GLMAEError: the loss is not finite any more.
    """
    everything = range(len(labelled.store))
    file = run.unfinished / "validation.json"
    plan = ValidationPlan.read(file)
    if plan is None:
        if steps is not None:
            if steps >= TRIAL_FROM:
                step_seconds = run_trial(train(everything, Schedule(1))).step_seconds
                _report_time(events, step_seconds, round((1 + config.validation) * steps))
            plan = plan_steps(labelled.annotated, config.validation, steps, config.seed)
        else:
            assert minutes is not None
            plan = _plan_seconds(labelled, config, train, 60 * minutes, events)
        plan.write(file)
    looked_at = _looked_at(plan, labelled)
    schedule, deadline = Schedule(steps, minutes), None
    if minutes is not None:
        deadline = began + 60 * minutes - RESERVE_SECONDS
        check_seconds = min(LARGEST_CHECK * 60 * minutes, len(looked_at) * plan.scan_seconds)
        reserve = RESERVE_SECONDS + check_seconds + plan.all_seconds
        schedule = Schedule(minutes=minutes_left(minutes, began, reserve))
    previews = Previews(run.unfinished, labelled, events)
    training = train(everything, schedule)
    try:
        if finish:
            training.restore(run.checkpoint)
            folds = "; held-out scans that were not scored yet are left out" if schedule.finished and plan.folds else ""
            events.info(f"Finished early, after step {schedule.done}{folds}.")
        else:
            training.run(run.checkpoint, events, previews.between_steps(training, should_stop))
        training.end()
        check = check_training(labelled, training, looked_at, checking(deadline, should_stop))
        results = cross_validate(
            file.parent / "cross-validation",
            plan,
            labelled,
            train,
            events=events,
            should_stop=should_stop,
            previews=previews,
            deadline=deadline,
            finish=finish,
        )
    finally:
        run.note_seconds(time.monotonic() - began)
    without = plan.without
    if plan.folds and not results:
        without = (
            "The run was stopped before any scan was held out: how well the model does is not known; train longer."
            if finish
            else "No model without some of the scans could be trained in time: how well the model does is not known."
        )
    scores = held_out_score(
        results, check.scores, labelled.classes, scans=len(everything), steps=schedule.done, without=without
    )
    scores = withheld(scores)
    if check.failure is not None:
        events.warning(check.failure)
    scores["failure"] = check.failure
    events.emit(
        "score", scans=len(everything), message=check.failure or summary(scores, len(everything)), **_reported(scores)
    )
    return ScoredTraining(training, scores)


def _plan_seconds(
    labelled: LabelledCases, config: FinetuneConfig, train: Trainer, seconds: float, events: Events
) -> ValidationPlan:
    shapes = [labelled.store.image(index).shape[1:] for index in range(len(labelled.store))]
    training = train(range(len(shapes)), Schedule(1))
    trial = run_trial(training)
    scan_seconds = float(np.mean([trial.scan_seconds(shape, training.config.patch) for shape in shapes]))
    _report_time(events, trial.step_seconds, round(seconds / trial.step_seconds))
    return plan_seconds(labelled.annotated, config.validation, seconds, trial.step_seconds, scan_seconds, config.seed)


def _report_time(events: Events, step_seconds: float, steps: int) -> None:
    seconds = round(steps * step_seconds, 1)
    message = f"A step takes about {step_seconds:.2g} s here, so some {steps} steps in {seconds / 60:.3g} minutes."
    events.emit("estimate", seconds=seconds, steps=steps, message=message)


def _looked_at(plan: ValidationPlan, labelled: LabelledCases) -> list[int]:
    """The scans that the finished model is tried on: those that tell its progress over the folds, else the smallest."""
    seen = sorted({fold.seen(number) for number, fold in enumerate(plan.folds) if fold.part == 1.0})
    return seen or [min(range(len(labelled.store)), key=lambda index: labelled.store.image(index).size)]


def _reported(scores: dict[str, Any]) -> dict[str, Any]:
    """What of the scores goes into the event."""
    return {key: scores[key] for key in ("mean_dice", "interval", "classes", "more_labels", "note", "failure")}
