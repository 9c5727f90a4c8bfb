"""Scores of regions that several classes make up and that may overlap, as those of BraTS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from glmae.errors import RequestError
from glmae.files import write_json
from glmae.scans.cases import find_labels
from glmae.scans.classes import IGNORE
from glmae.scans.labels import read_label
from glmae.segmentation.evaluation import report, score_masks


def evaluate_regions(predictions: Path, labels: Path, regions: Iterable[tuple[str, Sequence[int]]], out: Path) -> None:
    """Write a report as `glmae evaluate` does, of regions instead of classes; all were drawn in every case.

    Args:
        predictions: folder of segmentations with the names of the labels.
        labels: folder of label maps.
        regions: names, and the values of the labels that belong to each.
        out: the report.

    Raises:
        RequestError: there is nothing to compare.
        ScanError: a file cannot be read.
    """
    labeled, table = find_labels(labels)
    predicted = {case.name: case for case in find_labels(predictions)[0]}
    scores = []
    for case in labeled:
        if case.name not in predicted:
            continue
        truth = read_label(case, None, table)
        found = read_label(replace(predicted[case.name], classes=table), truth, table, prediction=True)
        spacing = tuple(reversed(truth.GetSpacing()))
        drawn, guessed = sitk.GetArrayViewFromImage(truth), sitk.GetArrayViewFromImage(found)
        for name, values in regions:
            numbers = [table.values.index(value) + 1 for value in values]
            masks = np.isin(guessed, numbers) & (drawn != IGNORE), np.isin(drawn, numbers)
            scores.append(score_masks(case.name, name, *masks, spacing))
    if not scores:
        raise RequestError(f"nothing in {predictions} has the name of a label in {labels}")
    write_json(out, report(scores))
