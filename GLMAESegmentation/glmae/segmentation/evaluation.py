"""Predictions against labels: Dice, 95 % Hausdorff distance and volume error per case and class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage

from ..errors import GLMAEError, RequestError, Stopped
from ..events import Events, silent
from ..files import write_json
from ..json_record import JsonRecord, in_json
from ..scans.case import Case
from ..scans.cases import find_labels
from ..scans.classes import IGNORE, ClassTable
from ..scans.labels import read_label
from ..scans.segmentation_file import is_segmentation


@dataclass(frozen=True)
class Score(JsonRecord):
    """How well one class of one case was found; None where the measure is undefined.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|), 0-1; None when both are empty.
        hd95_mm: the larger of the two directed 95 % surface distances, mm; None when either is empty.
        volume_error: (predicted - labeled) / labeled volume; None when the label is empty.
    """

    case: str
    name: str = field(metadata=in_json("class"))
    dice: float | None
    hd95_mm: float | None
    volume_error: float | None


def evaluate(
    *,
    predictions: Path,
    labels: Path,
    out: Path,
    classes: Path | None = None,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Score the segmentations in a folder; the same as `glmae evaluate`.

    Classes are matched by name; a prediction as a plain label map has the values of the labels' classes. Predictions
    without a label, and labels without a prediction, are passed over.

    Args:
        predictions: folder of `NAME.seg.nrrd` or `NAME.nii.gz`.
        should_stop: asked before every case; True stops, no report is written.

    Returns:
        The names of the cases that could not be compared.

    Raises:
        RequestError: nothing to compare.
        StorageError: the report cannot be written.
        Stopped: the user stopped.
    """
    events = events or silent()
    scores, failed = compare_folders(predictions, labels, classes, events, should_stop)
    content = report(scores)
    write_json(out, content)
    mean = content["mean_dice"]
    count = len({score.case for score in scores})
    message = f"Mean Dice {'undefined' if mean is None else f'{mean:.3f}'} over {count} cases; details in {out}."
    events.finished("evaluate", report=str(out), mean_dice=mean, failed=failed, message=message)
    return failed


def compare_folders(
    predictions: Path,
    labels: Path,
    classes: Path | None = None,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[list[Score], list[str]]:
    """The scores of `evaluate`, and the names of the cases that could not be compared; nothing is written."""
    events = events or silent()
    labeled, table = find_labels(labels, classes, events)
    predicted = {case.name: case for case in find_labels(predictions, None, events)[0]}
    compared = [case for case in labeled if case.name in predicted]
    if not compared:
        raise RequestError(f"nothing in {predictions} has the name of a label in {labels}; they are matched by name")
    events.started("evaluate", cases=len(compared), classes=list(table.names))
    scores: list[Score] = []
    failed = []
    for number, case in enumerate(compared):
        if should_stop():
            raise Stopped(f"stopped after {number} of {len(compared)} cases; run the same command again")
        events.progress("evaluate", number, len(compared), case=case.name)
        try:
            scores += _score_files(case, predicted[case.name], table, events)
        except GLMAEError as error:
            failed.append(case.name)
            events.case(case.name, "failed", name=type(error).__name__, message=str(error))
    events.progress("evaluate", len(compared), len(compared))
    if not scores:
        raise RequestError(f"none of the cases in {predictions} could be compared with {labels}")
    return scores, failed


def _score_files(case: Case, predicted: Case, table: ClassTable, events: Events) -> list[Score]:
    """Compare on the grid of the label, or of the prediction where the label is a Slicer segmentation."""
    assert case.label is not None
    predicted = replace(predicted, classes=table)  # values of a plain label map mean what they mean in the labels
    if is_segmentation(case.label):
        prediction = read_label(predicted, None, table, events, prediction=True)
        label = read_label(case, prediction, table, events)
    else:
        label = read_label(case, None, table, events)
        prediction = read_label(predicted, label, table, events, prediction=True)
    return score_case(case.name, prediction, label, table.names, _annotated(case, label, table))


def _annotated(case: Case, label: sitk.Image, table: ClassTable) -> list[bool]:
    """Which classes were drawn in a case: those that it is said of, else those that its label holds."""
    if case.annotated is not None:
        drawn = {table.find(name) for name in case.annotated}
    else:
        drawn = set(np.unique(sitk.GetArrayViewFromImage(label)).tolist())
    return [number in drawn for number in range(1, len(table) + 1)]


def score_case(
    case: str,
    prediction: sitk.Image,
    label: sitk.Image,
    names: Iterable[str],
    annotated: Iterable[bool],
    *,
    distances: bool = True,
) -> list[Score]:
    """Score every class that was annotated in this case.

    Args:
        prediction: label map with the network indices 0..n on the grid of `label`.
        label: label map with 0..n, and `IGNORE` where nothing is known (there nothing is scored).
        annotated: for each class, whether it was drawn in this case.
        distances: False leaves `hd95_mm` out. It takes some 50 bytes a voxel of the box around both masks, which is the
            whole scan where a network is hardly trained.
    """
    spacing_kji = tuple(reversed(label.GetSpacing()))
    truth_map = sitk.GetArrayViewFromImage(label)
    known = truth_map != IGNORE
    predicted_map = np.where(known, sitk.GetArrayViewFromImage(prediction), 0)
    scores = []
    for index, (name, drawn) in enumerate(zip(names, annotated, strict=True), start=1):
        if drawn:
            masks = predicted_map == index, truth_map == index
            scores.append(score_masks(case, name, *masks, spacing_kji, distances=distances))
    return scores


def score_masks(
    case: str,
    name: str,
    predicted: np.ndarray,
    truth: np.ndarray,
    spacing: tuple[float, ...],
    *,
    distances: bool = True,
) -> Score:
    """Score one class from two boolean masks [K, J, I] with their spacing in mm in the same order."""
    size_predicted, size_truth = int(predicted.sum()), int(truth.sum())
    if size_predicted + size_truth == 0:
        return Score(case, name, None, None, None)
    dice = 2 * int((predicted & truth).sum()) / (size_predicted + size_truth)
    hd95 = None
    if distances and size_predicted and size_truth:
        hd95 = _hausdorff95(predicted, truth, spacing)
    volume_error = (size_predicted - size_truth) / size_truth if size_truth else None
    return Score(case, name, dice, hd95, volume_error)


def report(scores: Iterable[Score]) -> dict[str, Any]:
    """The content of report.json: all rows, and the mean over cases of each case's mean Dice over its classes."""
    rows = list(scores)
    means = case_means(rows)
    return {"cases": [row.to_json() for row in rows], "mean_dice": float(np.mean(means)) if means else None}


def case_means(scores: Iterable[Score]) -> list[float]:
    """For each case in which Dice is defined for some class, the mean over these classes."""
    by_case: dict[str, list[float]] = {}
    for score in scores:
        if score.dice is not None:
            by_case.setdefault(score.case, []).append(score.dice)
    return [float(np.mean(values)) for values in by_case.values()]


def _hausdorff95(predicted: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> float | None:
    # Surfaces lie inside the common bounding box; one voxel of margin keeps the box's own faces out of them.
    (box,) = ndimage.find_objects((predicted | truth).astype(np.uint8))
    masks = [torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (predicted, truth)]
    distance = float(
        compute_hausdorff_distance(masks[0], masks[1], include_background=True, percentile=95, spacing=list(spacing))
    )
    return distance if math.isfinite(distance) else None
