"""The benchmark of beginnings on bundled scans: a row of the instant model, made once; sets of crops."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_scans import write_coarse_scans

from glmae.segmentation.finetune_config import CROP_VOXELS, SCAN_VOXELS

REPOSITORY = Path(__file__).resolve().parents[2]
SCANS = REPOSITORY / "GLMAESegmentation" / "Resources" / "SampleScans"
NAMES = ("hippocampus_039", "hippocampus_207")
Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def planned_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--coarse` changes them for the process."""
    for voxels in (CROP_VOXELS, SCAN_VOXELS):
        monkeypatch.setitem(voxels, "cpu", voxels["cpu"])


def tiny_set(folder: Path, pool: int, tests: int) -> Path:
    """A set of two scans, of which the first is labeled; the first ones are in the pool, the last ones for testing."""
    data = folder / "sets" / "tiny"
    write_coarse_scans(data, NAMES, step=2)
    files = [f"{scan}.nii.gz" for scan in NAMES]
    split = {"few_label": {"1": files[:1]}, "pool": files[:pool], "test": files[2 - tests :]}
    (data / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")
    return data


def test_a_row_is_made_once(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_set(tmp_path, pool=1, tests=1)
    out = tmp_path / "start.json"
    words = ["--labels", "1", "--seeds", "0", "--steps", "0", "--arms", "new", "new_high", "--coarse"]
    words += ["--setting", "start_crops=0", "--setting", "start_steps=100"]
    in_processes(monkeypatch, "evaluate")
    first = script("start", "--data", data.parent, *words, "--out", out)
    assert first.returncode == 0, first.stderr
    assert "tiny 1 0 0 new 1 True" in first.stdout
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]  # without steps there is one way
    assert 0.4 < row["dice"] < 1
    assert row["per_case"] == [row["dice"]]
    again = script("start", "--data", data.parent, *words, "--out", out)
    assert (again.returncode, again.stdout) == (0, "")
    printed = script("start", "--table", "--out", out).stdout.splitlines()
    assert printed[0] == "| set | labels | new, 0 steps |"
    assert printed[2] == f"| tiny, 1 scans | 1 | {row['dice']:.3f} |"


def in_processes(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These commands of the engine are processes of their own; others run here, which takes less time."""
    start = importlib.import_module("start")

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        python, flag, code, *words = command
        if words[2] in names:
            return subprocess.run(command, **options)
        assert (python, flag) == (sys.executable, "-c")
        monkeypatch.setattr(sys, "argv", [flag, *words])
        with pytest.raises(SystemExit) as ended:
            exec(code, {})
        return subprocess.CompletedProcess(command, ended.value.code, "", "")

    monkeypatch.setattr(start, "subprocess", SimpleNamespace(run=run))


def test_crops_around_a_structure(tmp_path: Path) -> None:
    data = tmp_path / "sets" / "whole"
    for kind in ("images", "labels"):
        shutil.copytree(SCANS / kind, data / kind)
    (data / "split.json").write_text(json.dumps({"seeds": {}}), encoding="utf-8")
    crops = tmp_path / "crops" / "posterior"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "crops.py"), "--data", str(data.parent)]
    command += ["--set", "whole", "--structures", "hippocampus posterior", "--out", str(crops)]
    subprocess.run(command, check=True, timeout=120)
    split = json.loads((crops / "split.json").read_text(encoding="utf-8"))["seeds"]["seed0"]
    assert split["few_label"]["4"] == split["pool"][:4]
    assert len(split["pool"]) == 6
    smaller: list[bool] = []
    for name in split["pool"]:
        label, whole = (sitk.ReadImage(str(folder / "labels" / name)) for folder in (crops, SCANS))
        image = sitk.ReadImage(str(crops / "images" / name))
        assert image.GetSize() == label.GetSize()
        assert image.GetOrigin() == label.GetOrigin()
        smaller.append(image.GetNumberOfPixels() < whole.GetNumberOfPixels())
        values, there = sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(whole)
        assert set(np.unique(values)) == {0, 2}
        assert np.count_nonzero(values) == np.count_nonzero(there == 2)  # nothing of it was cut off
    assert sum(smaller) > 3


def test_fits_of_the_head_are_compared(script: Script, tmp_path: Path) -> None:
    data = tiny_set(tmp_path, pool=2, tests=0)
    out = tmp_path / "head.json"
    settings = '{"start_crops": 0, "start_steps": 60}', '{"start_crops": 2, "start_steps": 60}'
    ended = script("head", "--data", data.parent, "--coarse", "--settings", *settings, "--out", out)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["settings"]["start_crops"] for row in rows] == [0, 2]
    assert rows[0]["dice"] != rows[1]["dice"]
    assert all(0.3 < row["dice"] < row["own_dice"] < 1 for row in rows)
