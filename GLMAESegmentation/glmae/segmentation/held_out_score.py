"""What Dice to expect on new scans: that of held-out scans, corrected for shorter training, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from ..scans.classes import ClassTable
from .cross_validation import FoldResult
from .evaluation import Score, report

# Of what the model segments its own training scans better than the models of the folds did theirs, this much is
# expected on new scans, too; on the careful side of what was measured (docs/method.md).
CREDITED = 0.85
# Standard deviation of Dice between scans that is assumed before any was seen, as a share of what is lacking to Dice 1,
# and how many scans that is worth.
USUAL_SPREAD, USUAL_WEIGHT = 0.3, 4
CONFIDENCE = 0.95
# Models that segment their own training scans less than so well as the finished one does say nothing about it.
LEAST_PROGRESS = 0.8
# A smaller gain than this is not worth an hour of drawing.
WORTHWHILE = 0.02


def alias(index: int) -> str:
    """What a model calls its training case; see `scans.cases.alias_and_hash`."""
    return f"case-{index + 1:02d}"


def held_out_score(
    results: Sequence[FoldResult],
    seen: Sequence[Score],
    classes: ClassTable,
    *,
    scans: int,
    steps: int,
    without: str,
) -> dict[str, Any]:
    """The `scores` of model.json.

    Args:
        results: of the cross-validation; empty for none.
        seen: scores of the finished model on scans that it was trained on, those of the folds' `seen` among them.
        classes: of the model.
        scans: number of labelled scans, all of which the model was trained on.
        steps: of the model.
        without: why there is no score, in one sentence, for the case that there is none.

    Returns:
        `mean_dice` (predicted), `interval`, `held_out_mean_dice`, `classes`, `cases`, `learning_curve`, `more_labels`,
        `note`; null where nothing can be said.
    """
    whole = [result for result in results if result.fold.part == 1.0]
    rows = [score for result in whole for score in result.held_out if score.dice is not None]
    training_dice = _mean_dice(seen)
    curve: dict[str, Any] = {"model": {"scans": scans, "steps": steps, "training_dice": _rounded(training_dice)}}
    held_out = _mean_dice(rows)
    if held_out is None:
        return {
            "mean_dice": None,
            "interval": None,
            "held_out_mean_dice": None,
            "classes": {name: {"dice": None, "interval": None} for name in classes.names},
            "cases": [],
            "learning_curve": curve,
            "more_labels": None,
            "note": without,
        }
    fold_scans = float(np.mean([len(result.fold.training) for result in whole]))
    fold_steps = float(np.mean([result.steps for result in whole]))
    corrected = [_corrected(row, _credit(row.name, rows, whole, seen)) for row in rows]
    predicted = _estimate(rows, corrected)
    points = _points(results)
    more, sentence = _more_labels(points, predicted["dice"], training_dice, scans)
    fold_training_dice = _mean_dice([score for result in whole for score in result.seen])
    curve |= {
        "folds": {
            "scans": round(fold_scans, 2),
            "steps": round(fold_steps, 1),
            "training_dice": _rounded(fold_training_dice),
        },
        "credited": _rounded(predicted["dice"] - held_out),
        "points": points,
        "with_twice_the_scans": more,
    }
    tested = len({row.case for row in rows})
    return {
        "mean_dice": predicted["dice"],
        "interval": predicted["interval"],
        "held_out_mean_dice": _rounded(held_out),
        "classes": {name: _estimate(_of(name, rows), _of(name, corrected)) for name in classes.names},
        "cases": [_row(score) for score in sorted(rows, key=lambda row: int(row.case))],
        "learning_curve": curve,
        "more_labels": sentence,
        "note": (
            f"{tested} of the {scans} labelled scans were segmented by models that had not seen them, with a mean Dice "
            f"of {held_out:.2f}; these models had {fold_scans:.3g} scans and {fold_steps:.0f} steps, not {scans} and "
            f"{steps}, and the expected Dice is corrected for that."
        ),
    }


def withheld(scores: dict[str, Any]) -> dict[str, Any]:
    """`scores` without what would be expected, where the models without some of the scans were hardly trained.

    Then most of it would be the correction. Their held-out Dice stays, as what it is.
    """
    curve = scores["learning_curve"]
    model, folds = curve["model"]["training_dice"], curve.get("folds")
    if folds is None or not model or (folds["training_dice"] or 0.0) >= LEAST_PROGRESS * model:
        return scores
    note = (
        f"The models without some of the scans had only {folds['steps']:.0f} steps and segment even the scans that "
        f"they were trained on with {folds['training_dice'] or 0.0:.2f}, the finished one with {model:.2f}: how well "
        "it does is not known; train longer."
    )
    unknown = {name: {"dice": None, "interval": None} for name in scores["classes"]}
    return scores | {"mean_dice": None, "interval": None, "classes": unknown, "note": note}


def summary(scores: dict[str, Any], scans: int) -> str:
    """`scores` of a model of so many labelled scans, in a sentence or two."""
    if scores["mean_dice"] is None:
        return str(scores["note"])
    low, high = scores["interval"]
    return (
        f"Expect Dice {scores['mean_dice']:.2f} +- {(high - low) / 2:.2f} from {scans} scans. {scores['more_labels']}"
    )


def _gains(results: Sequence[FoldResult], seen: Sequence[Score]) -> list[float]:
    """By how much the model segments training scans better than the folds' models segmented the same scans."""
    now = {(score.case, score.name): score.dice for score in seen}
    return [
        dice - before.dice
        for result in results
        for before in result.seen
        if before.dice is not None and (dice := now.get((before.case, before.name))) is not None
    ]


def _credit(name: str, rows: Sequence[Score], results: Sequence[FoldResult], seen: Sequence[Score]) -> float:
    """Which share of what the held-out scans lack of Dice 1 the model is expected to gain; new scans stay the harder.

    From the class's own progress: a class that the folds' models had not learnt yet is another matter than one that
    they found in their training scans and not in new ones.

    Args:
        name: of the class.
        rows: held-out scores, with a Dice.
        results: of the folds.
        seen: scores of the finished model on training scans.
    """
    own = [replace(result, seen=tuple(_of(name, result.seen))) for result in results]
    gains = _gains(own, seen) or _gains(results, seen)
    if not gains:
        return 0.0
    held_out = float(np.mean([row.dice for row in _of(name, rows) if row.dice is not None]))
    training_dice = _mean_dice(_of(name, seen) or seen) or 0.0
    expected = min(held_out + CREDITED * max(0.0, float(np.mean(gains))), max(held_out, training_dice))
    return (expected - held_out) / max(1e-6, 1 - held_out)


def _corrected(row: Score, credit: float) -> Score:
    assert row.dice is not None
    return replace(row, dice=row.dice + credit * (1 - row.dice))


def _of(name: str, rows: Sequence[Score]) -> list[Score]:
    return [row for row in rows if row.name == name]


def _estimate(rows: Sequence[Score], corrected: Sequence[Score]) -> dict[str, Any]:
    """Mean over cases of the mean over classes, and its interval, of the corrected scores."""
    if not rows:
        return {"dice": None, "interval": None}
    values = _case_means(corrected)
    mean = float(np.mean(values))
    before = float(np.mean(_case_means(rows)))
    # Half of the correction is taken to be in doubt.
    half = math.hypot(_half_width(values, USUAL_SPREAD * (1 - before)), (mean - before) / 2)
    return {"dice": _rounded(mean), "interval": [_rounded(max(0.0, mean - half)), _rounded(min(1.0, mean + half))]}


def _half_width(values: Sequence[float], usual: float) -> float:
    """Student's interval of a mean, the spread being pooled with the usual one, because few scans tell little of it."""
    count = len(values)
    squares = float(np.sum((np.asarray(values) - np.mean(values)) ** 2))
    freedom = count - 1 + USUAL_WEIGHT
    spread = math.sqrt((squares + USUAL_WEIGHT * usual**2) / freedom)
    return float(student_t.ppf(0.5 + CONFIDENCE / 2, freedom)) * spread / math.sqrt(count)


def _points(results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    """Held-out Dice over the number of training scans, over the same held-out cases; empty with one number only."""
    points = []
    for part in sorted({result.fold.part for result in results}):
        chosen = [result for result in results if result.fold.part == part]
        dice = _mean_dice([score for result in chosen for score in result.held_out])
        if dice is not None:
            number = float(np.mean([len(result.fold.training) for result in chosen]))
            points.append({"scans": round(number, 2), "dice": _rounded(dice)})
    return points if len(points) > 1 else []


def _more_labels(
    points: Sequence[dict[str, Any]], predicted: float, training_dice: float | None, scans: int
) -> tuple[float | None, str]:
    """Dice to expect with twice the scans (None: not known), and in words whether more labels would help."""
    if points:
        fewer, more = points[0], points[-1]
        errors = [max(1e-3, 1 - point["dice"]) for point in (fewer, more)]
        exponent = math.log(errors[0] / errors[1]) / math.log(more["scans"] / fewer["scans"])
        doubled = 1 - (1 - predicted) * 2 ** -min(0.5, max(0.0, exponent))
        if doubled - predicted < WORTHWHILE:
            return _rounded(doubled), "More labelled scans would probably change little."
        return _rounded(doubled), f"With {2 * scans} labelled scans, expect about {doubled:.2f}."
    if training_dice is None:
        return None, "Whether more labels would help is not known."
    gap = training_dice - predicted
    if gap > 2 * WORTHWHILE and gap > (1 - training_dice) / 2:
        return None, (
            f"The scans that it was trained on are segmented with {training_dice:.2f}, so more labelled scans would "
            "probably help."
        )
    return None, (
        f"Even the scans that it was trained on are segmented with {training_dice:.2f} only: a longer run would "
        "probably help more than more labels."
    )


def _mean_dice(rows: Sequence[Score]) -> float | None:
    value = report(rows)["mean_dice"]
    return None if value is None else float(value)


def _case_means(rows: Sequence[Score]) -> list[float]:
    return [
        float(np.mean([row.dice for row in rows if row.case == case and row.dice is not None]))
        for case in sorted({row.case for row in rows})
    ]


def _row(score: Score) -> dict[str, Any]:
    return {"alias": alias(int(score.case)), "class": score.name, "dice": _rounded(score.dice)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
