"""The paper's recipes: its table, and the whole chain on a stand-in of a published set."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from engine.published_sets import scan, write_set

from glmae.cli import main
from glmae.events import recorded
from glmae.scans.preparation import prepare_image
from glmae.segmentation.finetune_config import FinetuneConfig
from research import paper
from research.published_layout import LAYOUTS
from research.recipes import RECIPES

# What the authors' table says: train/val, spacing, HU window, crop.
TABLE = {
    "btcv": (24, 6, (1.5, 1.5, 1.5), (-175, 250), (96, 96, 96)),
    "mmwhs": (16, 4, (1.5, 1.5, 1.5), (0, 1700), (96, 96, 96)),
    "spleen": (32, 9, (1.5, 1.5, 1.5), (-175, 250), (96, 96, 96)),
    "amos22": (240, 60, (1.5, 1.5, 1.5), (-175, 250), (96, 96, 96)),
    "word": (80, 20, (1.5, 1.5, 1.5), (-175, 250), (96, 96, 96)),
    "covid19": (160, 39, (1.25, 1.25, 5.0), (-1000, 500), (192, 192, 32)),
    "brats21": (387, 97, (1.0, 1.0, 1.0), None, (224, 224, 120)),
}


def test_the_table_of_the_paper():
    found = {r.name: (r.train, r.validation, r.spacing, r.window, r.crop) for r in RECIPES.values()}
    assert found == TABLE
    assert list(RECIPES) == list(LAYOUTS)
    assert {name: recipe.channels for name, recipe in RECIPES.items() if recipe.channels != 1} == {"brats21": 4}


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_a_configuration_that_the_backbone_can_tile(name):
    recipe = RECIPES[name]
    config = FinetuneConfig(crop=(16, 16, 16)).changed(recipe.settings)
    assert (config.start_steps, config.preset) == (0, "base")
    for side, wanted in zip(config.crop, recipe.crop, strict=True):
        assert side % 16 == 0
        assert wanted <= side < wanted + 16


def test_a_window_is_scaled_to_0_and_1():
    image, _ = scan(0, (1, 2))
    image[3, 3, 3], image[4, 4, 4] = 3000, 38  # bone, and the middle of the window
    prepared, grid = prepare_image([image], RECIPES["btcv"].preparation)
    assert grid.spacing == (1.5, 1.5, 1.5)
    assert (prepared.min(), prepared.max()) == (0, 1)
    back = np.rint(prepared[0] * 425 - 175)
    hounsfield = np.clip(sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS")).transpose(), -175, 250)
    np.testing.assert_array_equal(back, hounsfield)


def test_the_split_is_by_name_and_shrinks_with_the_set(tmp_path):
    names = write_set("mmwhs", tmp_path, cases=5)
    heard: list[dict] = []
    train, classes = RECIPES["mmwhs"].cases(tmp_path, "train", recorded(heard))
    assert [case.name for case in train] == names[:4]
    assert len(classes) == 7
    held_out, _ = RECIPES["mmwhs"].cases(tmp_path, "validation")
    assert [case.name for case in held_out] == names[4:]
    warnings = [event["message"] for event in heard if event["event"] == "warning"]
    assert len(warnings) == 1
    assert "5 labeled scans where the paper had 20" in warnings[0]


def test_of_a_larger_set_the_first_scans_are_taken(tmp_path):
    names = write_set("btcv", tmp_path, cases=32)
    train, _ = RECIPES["btcv"].cases(tmp_path, "train")
    held_out, _ = RECIPES["btcv"].cases(tmp_path, "validation")
    assert [case.name for case in train + held_out] == names[:30]
    assert len(train) == 24


def test_train_segment_and_score_a_published_set(tmp_path):
    """In short: one step of a small network; the set is left as it was published."""
    published, sets, model, out = (tmp_path / name for name in ("MM-WHS 2017", "sets", "model", "out"))
    names = write_set("mmwhs", published, cases=4)
    before = sorted(published.rglob("*"))
    assert paper.main(["arrange", "mmwhs", str(published), str(sets)]) == 0
    assert sorted(published.rglob("*")) == before
    folders = ["--images", str(sets / "train" / "images"), "--labels", str(sets / "train" / "labels")]
    small = ["--setting", "preset=tiny", "--setting", "crop=[16,16,16]", "--setting", "batch=1", "--device", "cpu"]
    words = ["--backbone", "none", "--out", str(model), "--steps", "1", *small]
    assert paper.main(["finetune", "mmwhs", *folders, *words]) == 0
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    assert len(card["training_cases"]) == 3
    assert len(card["classes"]) == 7
    assert card["preprocessing"]["normalization"] == [
        {"kind": "ct", "low": 0.0, "high": 1700.0, "mean": 0.0, "std": 1700.0}
    ]
    images, labels = (str(sets / "validation" / part) for part in ("images", "labels"))
    words = ["--model", str(model), "--out", str(out), "--format", "nii.gz", "--device", "cpu"]
    assert main(["segment", "--images", images, *words]) == 0
    assert [path.name for path in out.glob("*.*")] == [f"{names[3]}.nii.gz"]
    report = tmp_path / "report.json"
    assert main(["evaluate", "--predictions", str(out), "--labels", labels, "--out", str(report)]) == 0
    rows = json.loads(report.read_text(encoding="utf-8"))["cases"]
    assert len(rows) == 7, "a class without voxels counts, too: it was looked for"
    assert {row["case"] for row in rows} == {names[3]}


def test_what_is_no_set_is_one_line(tmp_path, capsys):
    assert paper.main(["arrange", "btcv", str(tmp_path), str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "check the path" in lines[0]
    assert not (tmp_path / "out").exists()


def test_brats_is_scored_by_its_regions(tmp_path):
    """A prediction that takes the core for enhancing tumor: the core is whole all the same, its parts are not."""
    names = write_set("brats21", tmp_path / "set", cases=2)
    assert paper.main(["arrange", "brats21", str(tmp_path / "set"), str(tmp_path / "sets")]) == 0
    channels = tmp_path / "sets" / "validation" / "images" / names[1]
    assert [path.name for path in sorted(channels.iterdir())] == [f"{number}.nii.gz" for number in range(4)]
    label = sitk.ReadImage(str(tmp_path / "set" / names[1] / f"{names[1]}_seg.nii.gz"))
    (tmp_path / "out").mkdir()
    sitk.WriteImage(sitk.ChangeLabel(label, {1: 4}), str(tmp_path / "out" / f"{names[1]}.nii.gz"))
    words = ["--predictions", str(tmp_path / "out"), "--labels", str(tmp_path / "sets" / "validation" / "labels")]
    assert paper.main(["evaluate", "brats21", *words, "--out", str(tmp_path / "report.json")]) == 0
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]
    voxels = sitk.GetArrayFromImage(label)
    core, enhancing = np.isin(voxels, (1, 4)).sum(), (voxels == 4).sum()
    assert {row["class"]: row["dice"] for row in rows} == {
        "whole tumor": 1.0,
        "tumor core": 1.0,
        "enhancing tumor": pytest.approx(2 * enhancing / (core + enhancing)),
    }
