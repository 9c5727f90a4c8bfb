"""The benchmark of beginnings on bundled scans: a row of the instant model, made once; sets of crops."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from coarse_scans import write_coarse_scans

REPOSITORY = Path(__file__).resolve().parents[2]
SCANS = REPOSITORY / "GLMAESegmentation" / "Resources" / "SampleScans"
NAMES = ("hippocampus_039", "hippocampus_207")


def tiny_set(folder: Path, pool: int, tests: int) -> Path:
    """A set of two scans, of which the first is labeled; the first ones are in the pool, the last ones for testing."""
    data = folder / "sets" / "tiny"
    write_coarse_scans(data, NAMES)
    files = [f"{scan}.nii.gz" for scan in NAMES]
    split = {"few_label": {"1": files[:1]}, "pool": files[:pool], "test": files[2 - tests :]}
    (data / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")
    return data


def test_a_row_is_made_once(tmp_path: Path) -> None:
    data = tiny_set(tmp_path, pool=1, tests=1)
    out = tmp_path / "start.json"
    words = ["--labels", "1", "--seeds", "0", "--steps", "0", "--arms", "new", "new_high", "--coarse"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "start.py"), "--data", str(data.parent), *words]

    def run() -> str:
        ended = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert "tiny 1 0 0 new 1 True" in run()
    (row,) = json.loads(out.read_text(encoding="utf-8"))["rows"]  # without steps there is one way
    assert 0.4 < row["dice"] < 1
    assert row["per_case"] == [row["dice"]]
    assert run() == ""


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


def test_fits_of_the_head_are_compared(tmp_path: Path) -> None:
    data = tiny_set(tmp_path, pool=2, tests=0)
    out = tmp_path / "head.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "head.py"), "--data", str(data.parent), "--coarse"]
    command += ["--settings", '{"start_crops": 0, "start_steps": 60}', '{"start_crops": 2, "start_steps": 60}']
    subprocess.run([*command, "--out", str(out)], check=True, timeout=300)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["settings"]["start_crops"] for row in rows] == [0, 2]
    assert rows[0]["dice"] != rows[1]["dice"]
    assert all(0.3 < row["dice"] < row["own_dice"] < 1 for row in rows)
