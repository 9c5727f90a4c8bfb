"""Which scan to label next: measures equal their definitions, and the ranking on real scans makes sense."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from glmae.cli import main
from glmae.errors import RequestError
from glmae.events import recorded
from glmae.scans.geometry import Geometry
from glmae.scans.preparation import prepare_image
from glmae.segmentation.model import load_model
from glmae.segmentation.sliding_window import class_probabilities
from glmae.segmentation.suggestion import ScanView, entropy, expected_dice, rank, suggest

NONE_KNOWN = np.zeros((0, 2), dtype=np.float32)


def view(name, dice, *features):
    return ScanView(name, np.array([dice], dtype=float), np.array(features, dtype=np.float32))


def test_expected_dice_is_the_soft_dice_of_the_segmentation():
    shares = np.zeros((3, 2, 2, 1), dtype=np.float32)
    shares[1, 0] = [[1.0], [0.6]]  # segmented: 2 voxels
    shares[1, 1] = [[0.4], [0.0]]
    shares[0] = 1 - shares[1:].sum(axis=0)
    found, absent = expected_dice(shares)
    assert found == pytest.approx(2 * 1.6 / (2 + 2.0))
    assert absent == 0
    sure = np.stack([1 - np.eye(4)[None], np.eye(4)[None]]).astype(np.float32)
    assert expected_dice(sure) == pytest.approx([1.0])


def test_expected_dice_is_the_mean_dice_if_the_probabilities_are_right():
    """Truths drawn from the probabilities: the mean of their Dice with the segmentation, within 0.01."""
    rng = np.random.default_rng(0)
    share = np.clip(rng.normal(0.4, 0.3, (1, 20, 20, 10)), 0, 1)
    truths = rng.random((200, *share.shape)) < share
    mask = share > 0.5
    dice = [2 * (truth & mask).sum() / (truth.sum() + mask.sum()) for truth in truths]
    assert expected_dice(np.concatenate([1 - share, share])) == pytest.approx([np.mean(dice)], abs=0.01)


def test_entropy_is_zero_where_sure_and_one_where_all_are_alike():
    shares = np.array([[1, 1 / 3, 0.5], [0, 1 / 3, 0.5], [0, 1 / 3, 0]], dtype=np.float32)[..., None, None]
    values = entropy(shares).ravel()
    assert values == pytest.approx([0, 1, np.log(2) / np.log(3)], abs=1e-5)


def test_at_equal_distance_the_less_certain_scan_comes_first():
    ranking = rank([view("sure", 0.9, 0, 1), view("unsure", 0.4, 1, 0)], np.zeros((1, 2), np.float32), ["organ"])
    assert [entry.case for entry in ranking] == ["unsure", "sure"]
    assert ranking[0].gain == pytest.approx(ranking[0].uncertainty * ranking[0].distance, abs=1e-3)


def test_at_equal_uncertainty_the_farther_scan_comes_first():
    ranking = rank([view("near", 0.5, 0, 1), view("far", 0.5, 0, 2)], np.zeros((1, 2), np.float32), ["organ"])
    assert [entry.case for entry in ranking] == ["far", "near"]
    assert "unlike the labelled scans" in ranking[0].reason


def test_two_scans_alike_do_not_come_one_after_the_other():
    views = [view("a", 0.3, 5, 0), view("a again", 0.3, 5, 0.1), view("b", 0.7, 0, 5), view("c", 0.7, -5, 0)]
    ranking = rank(views, np.zeros((1, 2), np.float32), ["organ"])
    assert ranking[0].case == "a again"
    assert ranking[-1].case == "a"
    assert "like a again, which comes first" in ranking[-1].reason


def test_an_outlier_does_not_come_first_for_that_alone():
    views = [view(f"usual {n}", 0.3, np.cos(n), np.sin(n)) for n in range(6)] + [view("broken", 0.8, 500, 0)]
    ranking = rank(views, np.zeros((1, 2), np.float32), ["organ"])
    assert ranking[0].case != "broken"


def test_without_features_of_the_labelled_scans_uncertainty_and_variety_count():
    ranking = rank([view("sure", 0.9, 0, 1), view("unsure", 0.4, 1, 0)], NONE_KNOWN, ["organ"])
    assert [entry.case for entry in ranking] == ["unsure", "sure"]
    assert ranking[0].reason == "the model expects Dice 0.40"


def test_what_was_not_found_is_said():
    lost = ScanView("lost", np.array([0.0, 0.8]), np.zeros(2, np.float32))
    empty = ScanView("empty", np.zeros(2), np.ones(2, np.float32))
    reasons = {entry.case: entry.reason for entry in rank([lost, empty], NONE_KNOWN, ["liver", "spleen"])}
    assert reasons["lost"].startswith("liver not found")
    assert reasons["empty"].startswith("nothing was found in it")


def test_real_scans(trained_model, sample_scans, tmp_path, capsys):
    """Scans of the training are passed over; one that is nearly one of them is known to be; maps lie on the scans."""
    folder = tmp_path / "noch nicht markiert 未"
    folder.mkdir()
    names = ["hippocampus_003", "hippocampus_039", "hippocampus_321"]  # 039 was trained on
    for name in names:
        shutil.copy(sample_scans / "images" / f"{name}.nii.gz", folder)
    known = sitk.ReadImage(str(folder / "hippocampus_039.nii.gz"))
    noise = np.random.default_rng(0).normal(0, 0.01 * sitk.GetArrayViewFromImage(known).std(), known.GetSize()[::-1])
    near = sitk.GetImageFromArray((sitk.GetArrayFromImage(known) + noise).astype(np.float32))
    Geometry.of(known).place(near)
    sitk.WriteImage(sitk.DICOMOrient(near, "PIR"), str(folder / "nearly 039.nrrd"))
    (folder / "damaged.nii.gz").write_bytes(b"nothing")
    words = ["suggest", "--model", trained_model, "--images", folder, "--device", "cpu"]
    words += ["--uncertainty", tmp_path / "maps", "--out", tmp_path / "ranking.json"]
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr()
    assert "damaged.nii.gz" in said.err
    assert "hippocampus_039 is labelled already" in said.err
    ranking = json.loads((tmp_path / "ranking.json").read_text(encoding="utf-8"))["suggestions"]
    assert [entry["rank"] for entry in ranking] == [1, 2, 3]
    assert {entry["case"] for entry in ranking} == {"hippocampus_003", "hippocampus_321", "nearly 039"}
    assert all(entry["case"] in line for entry, line in zip(ranking, said.out.splitlines(), strict=False))
    nearly = next(entry for entry in ranking if entry["case"] == "nearly 039")
    assert nearly["distance"] < 0.2
    assert nearly["rank"] == 3
    assert "much like the labelled scans" in nearly["reason"]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        f"{name}.uncertainty.nii.gz" for name in sorted(entry["case"] for entry in ranking)
    ]
    spread = sitk.ReadImage(str(tmp_path / "maps" / "nearly 039.uncertainty.nii.gz"))
    assert Geometry.of(spread).same_grid(Geometry.of(sitk.ReadImage(str(folder / "nearly 039.nrrd"))))
    device = torch.device("cpu")
    model = load_model(trained_model, device)
    prepared, grid = prepare_image([near], model.preparation)
    assert model.location is not None
    location = model.location.on(prepared, grid.spacing)
    expected = entropy(class_probabilities(model.network, prepared, model.config.patch, device, location=location))
    values = sitk.GetArrayFromImage(sitk.DICOMOrient(spread, "RAS")).transpose()
    np.testing.assert_allclose(values, expected, atol=1e-3)


def test_a_model_that_does_not_describe_its_scans(trained_model, sample_scans, tmp_path):
    older = shutil.copytree(trained_model, tmp_path / "older")
    card = json.loads((older / "model.json").read_text(encoding="utf-8"))
    for case in card["training_cases"]:
        assert len(case.pop("features")) == card["backbone"]["width"]
    (older / "model.json").write_text(json.dumps(card), encoding="utf-8")
    scan = sample_scans / "images" / "hippocampus_321.nii.gz"
    events: list[dict] = []
    assert suggest(model=older, images=[scan], device="cpu", events=recorded(events)) == []
    assert [event["case"] for event in events if event["event"] == "suggestion"] == ["hippocampus_321"]
    trained_on = sample_scans / "images" / "hippocampus_039.nii.gz"
    with pytest.raises(RequestError, match="no scan is left to label"):
        suggest(model=older, images=[trained_on], device="cpu")
