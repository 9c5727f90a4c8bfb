"""Scans and labels that cannot be used: one line that names the file, and nothing is left behind."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
from command_line import run


def as_text_file(folder: Path) -> str:
    path = next((folder / "images").glob("*039*"))
    path.write_text("this is no image", encoding="utf-8")
    return path.name


def as_truncated_file(folder: Path) -> str:
    path = next((folder / "images").glob("*039*"))
    path.write_bytes(path.read_bytes()[:2000])
    return path.name


def as_truncated_voxels(folder: Path) -> str:
    path = next((folder / "labels").glob("*039*"))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:5000]))
    return path.name


def as_constant_image(folder: Path) -> str:
    path = next((folder / "images").glob("*039*"))
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0 + 5, str(path))
    return path.name


def as_not_finite(folder: Path) -> str:
    path = next((folder / "images").glob("*039*"))
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    sitk.WriteImage(image * float("nan"), str(path))
    return path.name


def as_four_dimensions(folder: Path) -> str:
    path = next((folder / "images").glob("*039*"))
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(path))
    return path.name


def as_color_image(folder: Path) -> str:
    path = next((folder / "images").glob("*039*"))
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkUInt8)
    path.unlink()
    sitk.WriteImage(sitk.Compose(image, image, image), str(path.with_name("hippocampus_039.nrrd")))
    return "hippocampus_039.nrrd"


def as_empty_label(folder: Path) -> str:
    path = next((folder / "labels").glob("*039*"))
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    return path.name


def as_label_without_image(folder: Path) -> str:
    next((folder / "images").glob("*039*")).unlink()
    return "hippocampus_039"


def as_other_size(folder: Path) -> str:
    path = next((folder / "labels").glob("*039*"))
    sitk.WriteImage(sitk.ReadImage(str(path))[:20, :, :], str(path))
    return path.name


def as_other_place(folder: Path) -> str:
    path = next((folder / "labels").glob("*039*"))
    label = sitk.ReadImage(str(path))
    label.SetOrigin([x + 40 for x in label.GetOrigin()])
    sitk.WriteImage(label, str(path))
    return path.name


def as_unknown_value(folder: Path) -> str:
    path = next((folder / "labels").glob("*039*"))
    sitk.WriteImage(sitk.ReadImage(str(path)) * 9, str(path))
    return path.name


def as_broken_class_file(folder: Path) -> str:
    (folder / "labels" / "classes.json").write_text("{", encoding="utf-8")
    return "classes.json"


@pytest.fixture
def few_scans(fine_scans):
    return fine_scans


SPOILT = [value for name, value in sorted(globals().items()) if name.startswith("as_")]


def test_one_bad_scan_does_not_stop_the_others(sample_scans, trained_model, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("hippocampus_003", "hippocampus_097"):
        shutil.copy(sample_scans / "images" / f"{name}.nii.gz", folder)
    whole = (folder / "hippocampus_003.nii.gz").read_bytes()
    (folder / "a cut off.nii.gz").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    assert run("segment", "--model", trained_model, "--images", folder, "--out", out, "--device", "cpu") == 1
    assert sorted(p.name for p in out.glob("*.*")) == ["hippocampus_003.seg.nrrd", "hippocampus_097.seg.nrrd"]
    assert "a cut off.nii.gz" in capsys.readouterr().err


# Of a run that is to succeed, whatever its model is worth.
BRIEF = ("--backbone", "none", "--steps", 1, "--setting", "start_steps=20", "--setting", "start_crops=1")


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda function: function.__name__)
def test_bad_data_is_one_line_that_names_the_file_and_leaves_nothing(spoil, few_scans, tmp_path, capfd):
    named = spoil(few_scans)
    out = tmp_path / "model"
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--out", out)
    status = run(*words, "--backbone", "none", "--device", "cpu", "--steps", 2)
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if "error:" in line]
    assert status == 2
    assert len(lines) == 1
    assert named in lines[0]
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_a_case_named_without_label_or_without_image(few_scans, tmp_path, capfd):
    (few_scans / "labels" / "hippocampus_003.nii.gz").unlink()
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--steps", 2)
    for case in ("hippocampus_003", "hippocampus_999"):
        assert run(*words, "--cases", case, "--out", tmp_path / "model") == 2
        assert case in capfd.readouterr().err
    assert not (tmp_path / "model").exists()


def test_an_image_without_label_is_simply_not_trained_on(few_scans, tmp_path):
    (few_scans / "labels" / "hippocampus_003.nii.gz").unlink()
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--device", "cpu")
    assert run(*words, *BRIEF, "--out", tmp_path / "model") == 0
    card = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert len(card["training_cases"]) == 2


def test_a_label_that_is_a_fraction_of_a_voxel_off_is_resampled_with_a_warning(few_scans, tmp_path, capfd):
    path = next((few_scans / "labels").glob("*039*"))
    label = sitk.ReadImage(str(path))
    label.SetOrigin([x + 0.4 for x in label.GetOrigin()])
    sitk.WriteImage(label, str(path))
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--device", "cpu")
    assert run(*words, *BRIEF, "--out", tmp_path / "model") == 0
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
    assert any(path.name in line for line in warnings)
