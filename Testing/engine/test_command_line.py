"""The command line on real scans: the whole chain, its events, and how it stops and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import events_of, run

SCRIPT = [sys.executable, "-m", "glmae"]


def test_finetune_segment_evaluate(sample_scans, trained_model, tmp_path, capsys):
    names = ["hippocampus_003", "hippocampus_057", "hippocampus_097"]
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
    # Learned from two scans; all background, or a lost class, would be far below.
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
    assert run(*command, "--out", model, "--steps", 1, "--setting", "start_crops=4") == 0
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
    words += ("--backbone", "none", "--steps", 1, "--out", tmp_path / "model", "--setting", "start_steps=20")
    assert run(*words, "--setting", "speed=9") == 2
    assert "speed" in capfd.readouterr().err
    assert not (tmp_path / "model").exists()
    assert run(*words, "--setting", "crop=[16, 24, 16]", "--setting", "batch=1") == 0
    card = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert (card["finetuning"]["crop"], card["finetuning"]["batch"]) == ([16, 24, 16], 1)


def test_ctrl_c_stops_with_130_and_resume_finishes(few_scans, tmp_path):
    if sys.platform == "win32":
        pytest.skip("sending Ctrl-C to one child only needs a console of its own on Windows")
    import signal

    out = tmp_path / "model"
    words = ["finetune", "--images", few_scans / "images", "--labels", few_scans / "labels", "--out", out, "--events"]
    words += ["--backbone", "none", "--steps", "12", "--device", "cpu", "--setting", "start_steps=20"]
    words += ["--setting", "start_crops=1", "--setting", "crop=[24,32,24]"]
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
