"""The ablation on bundled scans: each variant once, with a pre-training of seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
SCANS = REPOSITORY / "GLMAESegmentation" / "Resources" / "SampleScans"
NAMES = ("hippocampus_039", "hippocampus_207", "hippocampus_003")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    folder = tmp_path / "my sets" / "tiny"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for scan in NAMES:
            shutil.copy(SCANS / kind / f"{scan}.nii.gz", folder / kind)
    shutil.copy(SCANS / "labels" / "classes.json", folder / "labels")
    files = [f"{scan}.nii.gz" for scan in NAMES]
    split = {"few_label": {"1": files[:1]}, "pool": files[:2], "test": files[2:]}
    (folder / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")
    return tmp_path / "my sets"


def run(sets: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "ablation.py"), "--data", str(sets), "--sets", "tiny"]
    command += ["--labels", "1", "--seeds", "0", "--variants", "scratch", "mae_steps", "glmae"]
    command += ["--pretrain-minutes", "0.05", "--steps", "4"]
    command += ["--out", str(tmp_path / "ablation.json"), "--work", str(tmp_path / "work")]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


def test_variants_differ_in_pretraining_only(sets: Path, tmp_path: Path) -> None:
    first = run(sets, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "ablation.json").read_text("utf-8"))["rows"]}
    assert list(rows) == ["scratch", "mae_steps", "glmae"]
    assert rows["scratch"]["pretrain_steps"] is None
    assert rows["mae_steps"]["pretrain_steps"] == rows["glmae"]["pretrain_steps"] > 0
    assert all(0 <= row["dice"] <= 1 and 0 <= row["zeroed_dice"] <= 1 for row in rows.values())
    cards = [json.loads(file.read_text("utf-8")) for file in sorted((tmp_path / "work" / "tiny").glob("*/model.json"))]
    assert [card["pretraining"]["weights"]["global_local"] for card in cards] == [0.1, 0.0]
    again = run(sets, tmp_path)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
