"""The command line on real scans: the whole chain, exit states, and what a wrong request leaves behind (nothing)."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from glmae.cli import main

SCRIPT = [sys.executable, "-m", "glmae"]


def run(*words: object) -> int:
    return main([str(word) for word in words])


def events_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_finetune_segment_evaluate(sample_scans, trained_model, tmp_path, capsys):
    names = ["hippocampus_003", "hippocampus_057", "hippocampus_321"]
    scans = [sample_scans / "images" / f"{name}.nii.gz" for name in names]
    assert (
        run("segment", "--model", trained_model, "--images", *scans, "--out", tmp_path / "out", "--device", "cpu") == 0
    )
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [f"{name}.seg.nrrd" for name in names]
    for scan in scans:
        source = sitk.ReadImage(str(scan))
        result = sitk.ReadImage(str(tmp_path / "out" / scan.name.replace(".nii.gz", ".seg.nrrd")))
        assert result.GetSize() == source.GetSize()
        np.testing.assert_allclose(result.GetOrigin(), source.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(result.GetDirection(), source.GetDirection(), atol=1e-6)
        assert {result.GetMetaData(f"Segment{n}_Name") for n in (0, 1)} == {
            "hippocampus anterior",
            "hippocampus posterior",
        }
    report = tmp_path / "report.json"
    assert run("evaluate", "--predictions", tmp_path / "out", "--labels", sample_scans / "labels", "--out", report) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    assert len(content["cases"]) == 6
    assert set(content["cases"][0]) == {"case", "class", "dice", "hd95_mm", "volume_error"}
    # 70 steps from two scans; all background, or a lost class, would be far below.
    assert content["mean_dice"] > 0.6
    assert min(row["dice"] for row in content["cases"]) > 0.2
    assert "Mean Dice" in capsys.readouterr().out


def test_nifti_output_keeps_the_training_values(few_scans, sample_scans, tmp_path):
    classes = json.loads((few_scans / "labels" / "classes.json").read_text(encoding="utf-8"))
    for entry, value in zip(classes["classes"], (7, 300), strict=True):
        entry["value"] = value
    (few_scans / "labels" / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    for path in (few_scans / "labels").glob("*.nii.gz"):
        label = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkUInt16)
        sitk.WriteImage(sitk.ChangeLabel(label, {1: 7, 2: 300}), str(path))
    model, out = tmp_path / "model", tmp_path / "out"
    images = few_scans / "images"
    command = (
        "finetune",
        "--images",
        images,
        "--labels",
        few_scans / "labels",
        "--backbone",
        "none",
        "--device",
        "cpu",
    )
    assert run(*command, "--out", model, "--steps", 25) == 0
    assert (
        run("segment", "--model", model, "--images", images, "--out", out, "--format", "nii.gz", "--device", "cpu") == 0
    )
    for path in images.glob("*.nii.gz"):
        found = set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(out / path.name)))).tolist())
        assert found <= {0, 7, 300}
        assert len(found) > 1
    assert run("evaluate", "--predictions", out, "--labels", few_scans / "labels", "--out", tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["mean_dice"] > 0.3


def test_events_are_one_json_object_a_line(sample_scans, trained_model, tmp_path, capfd):
    scan = sample_scans / "images" / "hippocampus_003.nii.gz"
    words = ("segment", "--model", trained_model, "--images", scan, "--out", tmp_path, "--device", "cpu", "--events")
    assert run(*words) == 0
    events = events_of(capfd.readouterr().out)
    assert events[0]["event"] == "started"
    assert events[-1]["event"] == "finished"
    assert {"event": "case", "case": "hippocampus_003", "state": "running"} in events
    assert [e["state"] for e in events if e["event"] == "case"] == ["running", "done"]


def test_a_second_run_does_only_what_is_missing(sample_scans, trained_model, tmp_path, capfd):
    scans = [sample_scans / "images" / f"hippocampus_{n}.nii.gz" for n in ("003", "057")]
    words = ("segment", "--model", trained_model, "--out", tmp_path, "--device", "cpu", "--events", "--images")
    assert run(*words, scans[0]) == 0
    before = (tmp_path / "hippocampus_003.seg.nrrd").read_bytes()
    capfd.readouterr()
    assert run(*words, *scans) == 0
    states = [(e["case"], e["state"]) for e in events_of(capfd.readouterr().out) if e["event"] == "case"]
    assert states == [("hippocampus_003", "skipped"), ("hippocampus_057", "running"), ("hippocampus_057", "done")]
    assert (tmp_path / "hippocampus_003.seg.nrrd").read_bytes() == before


def test_one_bad_scan_does_not_stop_the_others(sample_scans, trained_model, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("hippocampus_003", "hippocampus_321"):
        shutil.copy(sample_scans / "images" / f"{name}.nii.gz", folder)
    whole = (folder / "hippocampus_003.nii.gz").read_bytes()
    (folder / "a cut off.nii.gz").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    assert run("segment", "--model", trained_model, "--images", folder, "--out", out, "--device", "cpu") == 1
    assert sorted(p.name for p in out.glob("*.*")) == ["hippocampus_003.seg.nrrd", "hippocampus_321.seg.nrrd"]
    assert "a cut off.nii.gz" in capsys.readouterr().err


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


def as_colour_image(folder: Path) -> str:
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


SPOILT = [value for name, value in sorted(globals().items()) if name.startswith("as_")]


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
    assert run(*words, "--backbone", "none", "--steps", 1, "--out", tmp_path / "model") == 0
    card = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert len(card["training_cases"]) == 2


def test_a_label_that_is_a_fraction_of_a_voxel_off_is_resampled_with_a_warning(few_scans, tmp_path, capfd):
    path = next((few_scans / "labels").glob("*039*"))
    label = sitk.ReadImage(str(path))
    label.SetOrigin([x + 0.4 for x in label.GetOrigin()])
    sitk.WriteImage(label, str(path))
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--device", "cpu")
    assert run(*words, "--backbone", "none", "--steps", 1, "--out", tmp_path / "model") == 0
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning:")]
    assert any(path.name in line for line in warnings)


@pytest.mark.parametrize(
    "words",
    [
        ("finetune",),
        ("finetune", "--images", "nowhere", "--labels", "nowhere", "--out", "x"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--steps", "0"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--steps", "1.5"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--minutes", "ten"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--steps", "3", "--minutes", "1"),
        ("finetune", "--images", ".", "--labels", ".", "--out", "x", "--device", "tpu"),
        ("segment", "--model", "nowhere", "--images", ".", "--out", "x"),
        ("segment", "--model", ".", "--images", "nowhere", "--out", "x"),
        ("evaluate", "--predictions", "nowhere", "--labels", "nowhere", "--out", "x/report.json"),
        ("pretrain", "--images", "nowhere", "--out", "x"),
        ("pretrain", "--images", ".", "--out", "x", "--preset", "huge"),
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


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX means to fill a disk")
def test_a_full_disk_leaves_nothing_half_written(sample_scans, trained_model, tmp_path):
    """A limit on the size of files stands for a full disk: the write fails half-way, in a real process."""
    scan = sample_scans / "images" / "hippocampus_003.nii.gz"
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)); "
    limited += "from glmae.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["segment", "--model", trained_model, "--images", scan, "--out", tmp_path, "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", limited, *map(str, words)], capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*.*") if path.parent.name not in ("cases", "report")] == []
    assert list(tmp_path.rglob(".writing*")) == []


def test_settings_from_the_command_line(few_scans, tmp_path, capfd):
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--device", "cpu")
    words += ("--backbone", "none", "--steps", 1, "--out", tmp_path / "model")
    assert run(*words, "--setting", "speed=9") == 2
    assert "speed" in capfd.readouterr().err
    assert not (tmp_path / "model").exists()
    assert run(*words, "--setting", "patch=[16, 24, 16]", "--setting", "head=unetr") == 0
    card = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert (card["finetuning"]["patch"], card["finetuning"]["head"]) == ([16, 24, 16], "unetr")


def test_an_unlabelled_scan_that_cannot_be_used_is_status_1_and_the_model_is_there(few_scans, tmp_path, capfd):
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    shutil.copy(few_scans / "images" / "hippocampus_003.nii.gz", folder)
    (folder / "broken.nii.gz").write_text("no image", encoding="utf-8")
    words = ("finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--unlabelled", folder)
    words += ("--backbone", "none", "--device", "cpu", "--steps", 2, "--out", tmp_path / "model", "--events")
    assert run(*words) == 1
    last = events_of(capfd.readouterr().out)[-1]
    assert (last["event"], last["failed"]) == ("finished", ["broken"])
    assert (tmp_path / "model" / "model.json").exists()


def test_ctrl_c_stops_with_130_and_resume_finishes(few_scans, tmp_path):
    if sys.platform == "win32":
        pytest.skip("sending Ctrl-C to one child only needs a console of its own on Windows")
    import signal

    out = tmp_path / "model"
    words = ["finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--out", out, "--events"]
    words += ["--backbone", "none", "--steps", "12", "--device", "cpu"]
    command = [*SCRIPT, *map(str, words)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=os.environ | {"LC_ALL": "C"}
    )
    assert child.stdout is not None
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["stage"] == "finetune" and event["done"] >= 3:
            child.send_signal(signal.SIGINT)
            break
    last = [json.loads(line) for line in child.stdout][-1]
    assert child.wait(60) == 130
    assert last["event"] == "failed"
    assert last["name"] == "Stopped"
    assert not (out / "model.json").exists()
    resumed = subprocess.run([*command, "--resume"], capture_output=True, encoding="utf-8")
    assert resumed.returncode == 0
    steps = [e["done"] for e in events_of(resumed.stdout) if e["event"] == "progress" and e["stage"] == "finetune"]
    assert steps[0] > 3
    assert (out / "model.json").exists()
    assert not (out / "unfinished").exists()
