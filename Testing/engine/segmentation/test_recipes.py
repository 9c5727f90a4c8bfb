"""The paper's recipes: its table, and the whole chain on a stand-in of a published set."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from engine.published_sets import scan, write_set

from glmae import cli
from glmae.cli import main
from glmae.errors import RequestError
from glmae.events import recorded
from glmae.scans.preparation import prepare_image
from glmae.scans.published_layout import LAYOUTS
from glmae.segmentation.configuration import FinetuneConfig
from glmae.segmentation.recipes import RECIPES, find_recipe, training_cases, validation_cases

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
    assert list(RECIPES) == list(LAYOUTS) == list(cli.RECIPES)
    assert {name: recipe.channels for name, recipe in RECIPES.items() if recipe.channels != 1} == {"brats21": 4}


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_a_configuration_that_the_backbone_can_tile(name):
    recipe = RECIPES[name]
    config = FinetuneConfig(patch=(16, 16, 16)).changed(recipe.settings)
    assert (config.head, config.preset) == ("unetr", "base")
    for side, wanted in zip(config.patch, recipe.crop, strict=True):
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
    train, classes = training_cases(find_recipe("mmwhs"), tmp_path, None, recorded(heard))
    assert [case.name for case in train] == names[:4]
    assert len(classes) == 7
    held_out, _ = validation_cases("mmwhs", [tmp_path], recorded([]))
    assert [case.name for case in held_out] == names[4:]
    warnings = [event["message"] for event in heard if event["event"] == "warning"]
    assert len(warnings) == 1
    assert "5 labelled scans where the paper had 20" in warnings[0]
    one, _ = training_cases(find_recipe("mmwhs"), tmp_path, names[1:2], recorded([]))
    assert [case.name for case in one] == names[1:2]
    with pytest.raises(RequestError, match=names[4]):
        training_cases(find_recipe("mmwhs"), tmp_path, names[4:], recorded([]))


def test_of_a_larger_set_the_first_scans_are_taken(tmp_path):
    names = write_set("btcv", tmp_path, cases=32)
    train, _ = training_cases(find_recipe("btcv"), tmp_path, None, recorded([]))
    held_out, _ = validation_cases("btcv", [tmp_path], recorded([]))
    assert [case.name for case in train + held_out] == names[:30]
    assert len(train) == 24


def test_train_segment_and_score_a_published_set(tmp_path, capsys):
    """In short: one step of a small network; every command takes the folder as it was published."""
    names = write_set("mmwhs", tmp_path / "MM-WHS 2017", cases=4)
    folder, model, out = str(tmp_path / "MM-WHS 2017"), str(tmp_path / "model"), str(tmp_path / "out")
    small = ["--setting", "preset=tiny", "--setting", "patch=[16,16,16]", "--setting", "batch=1", "--device", "cpu"]
    words = ["--recipe", "mmwhs", "--backbone", "none", "--out", model, "--steps", "1", *small]
    assert main(["finetune", "--images", folder, *words]) == 0
    card = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert (card["recipe"], len(card["training_cases"])) == ("mmwhs", 3)
    assert card["preprocessing"]["normalisation"] == [
        {"kind": "ct", "low": 0.0, "high": 1700.0, "mean": 0.0, "std": 1700.0}
    ]
    assert card["finetuning"]["head"] == "unetr"
    words = ["--recipe", "mmwhs", "--model", model, "--out", out, "--format", "nii.gz", "--device", "cpu"]
    assert main(["segment", "--images", folder, *words]) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.*")] == [f"{names[3]}.nii.gz"]
    report = tmp_path / "report.json"
    assert main(["evaluate", "--recipe", "mmwhs", "--predictions", out, "--labels", folder, "--out", str(report)]) == 0
    rows = json.loads(report.read_text(encoding="utf-8"))["cases"]
    assert len(rows) == 7
    assert {row["case"] for row in rows} == {names[3]}


def test_wrong_requests_are_one_line(tmp_path, capsys):
    write_set("spleen", tmp_path / "set")
    wanted = ["finetune", "--images", str(tmp_path / "set"), "--out", str(tmp_path / "model")]
    for words, remedy in (
        (["--recipe", "spleen"], "import-checkpoint"),
        (["--recipe", "spleens", "--backbone", "none"], "spleen"),
        (["--recipe", "spleen", "--backbone", "none", "--labels", str(tmp_path)], "leave --labels"),
        (["--recipe", "btcv", "--backbone", "none"], "check the path"),
        ([], "--recipe"),
    ):
        assert main([*wanted, *words]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert remedy in lines[0]
    assert not (tmp_path / "model").exists()


def test_brats_is_scored_by_its_regions(tmp_path):
    """A prediction that takes the core for enhancing tumour: the core is whole all the same, its parts are not."""
    names = write_set("brats21", tmp_path / "set", cases=2)
    label = sitk.ReadImage(str(tmp_path / "set" / names[1] / f"{names[1]}_seg.nii.gz"))
    (tmp_path / "out").mkdir()
    sitk.WriteImage(sitk.ChangeLabel(label, {1: 4}), str(tmp_path / "out" / f"{names[1]}.nii.gz"))
    words = ["--predictions", str(tmp_path / "out"), "--labels", str(tmp_path / "set")]
    assert main(["evaluate", "--recipe", "brats21", *words, "--out", str(tmp_path / "report.json")]) == 0
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]
    voxels = sitk.GetArrayFromImage(label)
    core, enhancing = np.isin(voxels, (1, 4)).sum(), (voxels == 4).sum()
    assert {row["class"]: row["dice"] for row in rows} == {
        "whole tumour": 1.0,
        "tumour core": 1.0,
        "enhancing tumour": pytest.approx(2 * enhancing / (core + enhancing)),
    }


@pytest.mark.parametrize(("words", "length"), [([], (None, None)), (["--steps", "5"], (5, None))])
def test_without_a_length_a_run_has_the_recipes(words, length):
    words = ["finetune", "--recipe", "btcv", "--images", "set", "--backbone", "none", "--out", "model", *words]
    training = cli._training(cli._parser().parse_args(words))
    assert (training["steps"], training["minutes"]) == length
    assert RECIPES["btcv"].steps == 1000 * 24
