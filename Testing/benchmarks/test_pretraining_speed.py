"""The benchmark of pre-training on a small preset: its rows, and that they are not measured twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from made_volumes import make_volumes, voxels

from glmae.events import silent
from glmae.scans.image import read_channels


def run(script, work: Path, out: Path, *methods: str) -> subprocess.CompletedProcess[str]:
    words = ["--work", work, "--out", out, "--preset", "tiny", "--device", "cpu", "--methods", *methods]
    words += ["--volumes", 2, "--side", 88, "--batches", 1, "--seconds", 0, "--warm-up", 1, "--workers", 0]
    return script("pretrain", *words)


def test_rows_are_written_and_kept(script, tmp_path):
    work, out = tmp_path / "a folder", tmp_path / "pretrain.json"
    first = run(script, work, out, "plain", "glmae")
    assert first.returncode == 0, first.stderr
    content = json.loads(out.read_text(encoding="utf-8"))
    assert [row["method"] for row in content["rows"]] == ["plain", "glmae"]
    for row in content["rows"]:
        assert (row["device"], row["preset"], row["views"]) == ("cpu", "tiny", "2x64+8x32")
        assert row["volumes_per_second"] > 0
        assert 0 < row["mfu"] < 1
    again = run(script, work, out, "plain", "glmae")
    assert "volumes/s" in again.stdout
    assert "batch 1:" not in again.stdout, "nothing is measured again"
    assert json.loads(out.read_text(encoding="utf-8")) == content


def test_the_volumes_are_read_alike_raw_and_by_the_engine(tmp_path):
    (path,) = make_volumes(tmp_path, 1, 24)
    raw = voxels(path)
    assert raw.dtype == np.int16
    assert raw.std() > 50
    (image,) = read_channels([path], silent())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), raw)
