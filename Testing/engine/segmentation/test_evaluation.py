"""Scores against independent formulas, and what is counted at all."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.errors import RequestError, Stopped
from glmae.events import recorded
from glmae.scans.classes import IGNORE
from glmae.segmentation.evaluation import evaluate, report, score_case, score_masks


def ball(shape, center, radius) -> np.ndarray:
    return ((np.moveaxis(np.indices(shape), 0, -1) - center) ** 2).sum(axis=-1) <= radius**2


def surface_distances(a: np.ndarray, b: np.ndarray, spacing) -> np.ndarray:
    """From every border voxel of a to the nearest border voxel of b, mm, by brute force."""

    def border(mask):
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis in range(3):
            inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        return np.argwhere(padded & ~inner) * spacing

    here, there = border(a), border(b)
    return np.sqrt(((here[:, None] - there[None]) ** 2).sum(axis=-1)).min(axis=1)


def test_measures_equal_their_definitions():
    spacing = (2.0, 1.0, 0.5)
    truth, predicted = ball((14, 16, 18), (7, 8, 9), 4), ball((14, 16, 18), (6, 8, 11), 5)
    score = score_masks("a", "b", predicted, truth, spacing)
    assert score.dice == pytest.approx(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))
    there, back = surface_distances(predicted, truth, spacing), surface_distances(truth, predicted, spacing)
    assert score.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-3)
    assert score.volume_error == pytest.approx((predicted.sum() - truth.sum()) / truth.sum())


def test_what_is_undefined_is_none():
    empty, something = np.zeros((5, 5, 5), bool), ball((5, 5, 5), (2, 2, 2), 1)
    both = score_masks("a", "b", empty, empty, (1, 1, 1))
    assert (both.dice, both.hd95_mm, both.volume_error) == (None, None, None)
    missed = score_masks("a", "b", empty, something, (1, 1, 1))
    assert (missed.dice, missed.hd95_mm, missed.volume_error) == (0.0, None, -1.0)
    invented = score_masks("a", "b", something, empty, (1, 1, 1))
    assert (invented.dice, invented.hd95_mm, invented.volume_error) == (0.0, None, None)


def test_only_known_voxels_and_annotated_classes_count():
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[:3, :3] = 1
    truth[:, :, 3:] = IGNORE
    predicted = np.zeros_like(truth)
    predicted[:3, :3] = 1
    predicted[:, :, 3:] = 2
    images = [sitk.GetImageFromArray(part) for part in (predicted, truth)]
    (score,) = score_case("a", images[0], images[1], ["first", "second"], [True, False])
    assert score.name == "first"
    assert score.dice == 1.0
    both = score_case("a", images[0], images[1], ["first", "second"], [True, True])
    assert both[1].dice is None, "predicted only where nothing is known"


def test_the_mean_is_over_cases_of_the_mean_over_classes():
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    rows = [score_masks("a", name, full, full, (1, 1, 1)) for name in ("x", "y")]
    rows += [score_masks("b", "x", empty, full, (1, 1, 1)), score_masks("b", "y", empty, empty, (1, 1, 1))]
    content = report(rows)
    assert content["mean_dice"] == 0.5
    assert content["cases"][3] == {"case": "b", "class": "y", "dice": None, "hd95_mm": None, "volume_error": None}


def test_labels_compared_with_themselves(sample_scans, tmp_path):
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name in ("hippocampus_003", "hippocampus_057"):
        shutil.copy(sample_scans / "labels" / f"{name}.nii.gz", predictions)
    out = tmp_path / "report.json"
    assert evaluate(predictions=predictions, labels=sample_scans / "labels", out=out) == []
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["mean_dice"] == 1.0
    assert {row["hd95_mm"] for row in content["cases"]} == {0.0}
    assert {row["volume_error"] for row in content["cases"]} == {0.0}


def test_a_case_that_cannot_be_compared_is_named_and_the_rest_is_scored(sample_scans, tmp_path):
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name in ("hippocampus_003", "hippocampus_057"):
        shutil.copy(sample_scans / "labels" / f"{name}.nii.gz", predictions)
    moved = sitk.ReadImage(str(predictions / "hippocampus_057.nii.gz"))
    moved.SetOrigin([x + 60 for x in moved.GetOrigin()])
    sitk.WriteImage(moved, str(predictions / "hippocampus_057.nii.gz"))
    out = tmp_path / "report.json"
    events: list[dict] = []
    failed = evaluate(predictions=predictions, labels=sample_scans / "labels", out=out, events=recorded(events))
    assert failed == ["hippocampus_057"]
    assert json.loads(out.read_text(encoding="utf-8"))["mean_dice"] == 1.0
    assert "over 1 cases" in events[-1]["message"]


def test_names_in_the_class_file_that_belong_to_no_label_are_told(sample_scans, tmp_path):
    labels = sample_scans / "labels"
    content = json.loads((labels / "classes.json").read_text(encoding="utf-8"))
    content["annotated"] = {"hippocampus_003": [1, 2], "hippocampus_03": [1]}
    content["region"] = {"liver": {"box": [[0, 5], [0, 5], [0, 5]]}}
    (tmp_path / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "predictions").mkdir()
    shutil.copy(labels / "hippocampus_003.nii.gz", tmp_path / "predictions")
    events: list[dict] = []
    evaluate(
        predictions=tmp_path / "predictions",
        labels=labels,
        out=tmp_path / "r.json",
        classes=tmp_path / "classes.json",
        events=recorded(events),
    )
    warnings = {event["case"]: event["message"] for event in events if event["event"] == "warning"}
    assert set(warnings) == {"hippocampus_03", "liver"}
    assert all(word in warnings["hippocampus_03"] for word in ("`annotated`", "hippocampus_03,", "mean hippocampus_0"))
    assert "`region`" in warnings["liver"]


def test_stopping_writes_no_report(sample_scans, tmp_path):
    labels, calls = sample_scans / "labels", iter([False, True])
    with pytest.raises(Stopped, match="1 of 6"):
        evaluate(predictions=labels, labels=labels, out=tmp_path / "r.json", should_stop=lambda: next(calls))
    assert not (tmp_path / "r.json").exists()


def test_nothing_to_compare(sample_scans, tmp_path):
    (tmp_path / "predictions").mkdir()
    shutil.copy(sample_scans / "labels" / "hippocampus_003.nii.gz", tmp_path / "predictions" / "another.nii.gz")
    with pytest.raises(RequestError, match="name"):
        evaluate(predictions=tmp_path / "predictions", labels=sample_scans / "labels", out=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
