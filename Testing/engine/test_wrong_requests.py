"""Requests that cannot be met: one line, status 2, and what was there before is untouched."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from command_line import run


@pytest.mark.parametrize(
    "words",
    [
        ("finetune",),
        ("finetune", "--images", "nowhere", "--labels", "nowhere", "--out", "x"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--steps", "-1"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--steps", "1.5"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--minutes", "ten"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--steps", "3", "--minutes", "1"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--device", "tpu"),
        ("segment", "--model", "nowhere", "--images", ".", "--out", "x"),
        ("segment", "--model", ".", "--images", "nowhere", "--out", "x"),
        ("evaluate", "--predictions", "nowhere", "--labels", "nowhere", "--out", "x/report.json"),
        ("pretrain", "--images", "nowhere", "--out", "x"),
        ("pretrain", "--images", ".", "--out", "x", "--preset", "huge"),
        ("pretrain", "--images", ".", "--out", "x", "--steps", "0"),
        ("predict",),
        (),
    ],
    ids=" ".join,
)
def test_a_wrong_request_is_one_line_and_status_2(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    captured = capfd.readouterr()
    assert len(captured.err.strip().splitlines()) == 1
    assert "_" not in captured.err, "no name of a function of ours"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999", "one"])
def test_a_seed_that_no_generator_takes_is_refused(seed, few_scans, tmp_path, capfd):
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--steps", 1)
    assert run(*words, "--out", tmp_path / "model", "--seed", seed) == 2
    assert "--seed" in capfd.readouterr().err
    assert not (tmp_path / "model").exists()


def test_an_existing_folder_is_never_overwritten(few_scans, trained_model, tmp_path, capfd):
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--steps", 2, "--out")
    before = {path.name: path.read_bytes() for path in trained_model.iterdir()}
    assert run(*words, trained_model) == 2
    assert "already holds a model" in capfd.readouterr().err
    assert {path.name: path.read_bytes() for path in trained_model.iterdir()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter 1.txt").write_text("mine", encoding="utf-8")
    assert run(*words, tmp_path / "thesis") == 2
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter 1.txt"]


def test_an_output_that_cannot_be_written_is_named(few_scans, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--steps", 1)
    assert run(*words, "--out", tmp_path / "file" / "model", "--device", "cpu") == 2
    error = capfd.readouterr().err
    assert str(tmp_path / "file") in error
    assert "Traceback" not in error


@pytest.mark.parametrize("damage", ["newer", "cut off", "other network", "no json", "a backbone"])
def test_a_damaged_or_newer_model_is_refused(damage, trained_model, sample_scans, tmp_path, capfd):
    model = tmp_path / "model"
    shutil.copytree(trained_model, model)
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    if damage == "newer":
        card["format"] += 1
    if damage == "other network":
        card["backbone"]["width"] = 96
    if damage == "a backbone":
        card["kind"] = "backbone"
    text = json.dumps(card)
    (model / "model.json").write_text(text[:50] if damage == "no json" else text, encoding="utf-8")
    if damage == "cut off":
        weights = (model / "weights.safetensors").read_bytes()
        (model / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    scan = sample_scans / "images" / "hippocampus_003.nii.gz"
    out = tmp_path / "out"
    assert run("segment", "--model", model, "--images", scan, "--out", out, "--device", "cpu") == 2
    error = capfd.readouterr().err
    assert str(model) in error
    assert ("newer version" in error) == (damage == "newer")
    assert len([line for line in error.splitlines() if "error:" in line]) == 1
    assert not out.exists()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems have no such names")
@pytest.mark.parametrize("option", ["--images", "--out"])
def test_a_path_that_is_no_text(option, few_scans, tmp_path, capfd):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller")
    paths = {"--images": few_scans / "images", "--labels": few_scans / "labels", "--out": tmp_path / "model"}
    words = [word for pair in (paths | {option: path}).items() for word in pair]
    assert run("finetune", *words) == 2
    assert r"M\xfcller is not UTF-8; rename it" in capfd.readouterr().err
    assert not Path(path).exists()


def test_what_nobody_foresaw_is_one_line_and_status_1(few_scans, capfd, monkeypatch):
    def broken(**options):
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr("glmae.segmentation.requirements.check", broken)
    assert run("check", "--images", few_scans / "images", "--labels", few_scans / "labels") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "ValueError (second line)" in line
