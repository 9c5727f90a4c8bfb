"""The simulated clinician on bundled scans: proposals that are compared with the truth, before she corrects them."""

from __future__ import annotations

import json
from pathlib import Path

from coarse_scans import write_coarse_scans

NAMES = ("hippocampus_207", "hippocampus_039", "hippocampus_003")


def test_a_loop_is_run_once(script, tmp_path: Path) -> None:
    data = tmp_path / "sets" / "tiny"
    write_coarse_scans(data, NAMES, step=2)
    split = {"few_label": {"1": [f"{NAMES[0]}.nii.gz"]}, "pool": [f"{name}.nii.gz" for name in NAMES[1:]], "test": []}
    (data / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")
    out = tmp_path / "loop.json"
    words = ("loop", "--data", data.parent, "--out", out)
    ended = script(*words)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["accepted"] for row in rows] == [1, 2]
    for row in rows:
        assert (row["set"], row["seed"], row["method"]) == ("tiny", 0, "glmae_live")
        assert 0.5 < row["dice"] < 1
        assert 0 < row["to_correct"] < 1
        assert 0 < row["train_seconds"] < row["wait_seconds"]
    assert rows[1]["wait_seconds"] < rows[0]["wait_seconds"], "the features are there"
    assert script(*words).stdout == ""
    assert script("loop", "--data", data.parent, "--out", out, "--methods", "nobody_3").returncode == 2
    printed = script("loop", "--table", "--out", out).stdout.splitlines()
    assert len(printed) == 3
    assert printed[2].startswith("| tiny | 0 | glmae_live | 1 | 0.")
