"""The benchmark of beginnings on bundled scans: a row of the instant model on fewer voxels, made once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCANS = REPOSITORY / "GLMAESegmentation" / "Resources" / "SampleScans"
NAMES = ("hippocampus_039", "hippocampus_207")


def test_a_row_is_made_once(tmp_path: Path) -> None:
    data = tmp_path / "sets" / "tiny"
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
        for scan in NAMES:
            shutil.copy(SCANS / kind / f"{scan}.nii.gz", data / kind)
    first, other = (f"{scan}.nii.gz" for scan in NAMES)
    split = {"few_label": {"1": [first]}, "pool": [first], "test": [other]}
    (data / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")
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
