"""The ablation on bundled scans: each variant once, with a pre-training of seconds."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from coarse_scans import write_coarse_scans

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
Script = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ("hippocampus_039", "hippocampus_207", "hippocampus_003")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    folder = tmp_path / "my sets" / "tiny"
    write_coarse_scans(folder, NAMES, step=2)
    files = [f"{scan}.nii.gz" for scan in NAMES]
    split = {"few_label": {"1": files[:1]}, "pool": files[:2], "test": files[2:]}
    (folder / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")
    return tmp_path / "my sets"


def run(script: Script, sets: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    words = ["--data", sets, "--sets", "tiny", "--labels", "1", "--seeds", "0"]
    words += ["--variants", "scratch", "mae_steps", "glmae", "--pretrain-minutes", "0.02", "--steps", "2"]
    return script("ablation", *words, "--out", tmp_path / "ablation.json", "--work", tmp_path / "work")


def test_variants_differ_in_pretraining_only(
    script: Script,
    sets: Path,
    tmp_path: Path,
    rows_here: Callable[[str], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = importlib.import_module("ablation_row")
    brief = {"start_steps": 40, "start_crops": 0, "batch": 1}
    monkeypatch.setattr(row, "finetune", partial(row.finetune, settings=brief))
    with rows_here("ablation"):
        first = run(script, sets, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "ablation.json").read_text("utf-8"))["rows"]}
    assert list(rows) == ["scratch", "mae_steps", "glmae"]
    assert rows["scratch"]["pretrain_steps"] is None
    assert rows["mae_steps"]["pretrain_steps"] == rows["glmae"]["pretrain_steps"] > 0
    assert all(0 <= row["dice"] <= 1 and 0 <= row["zeroed_dice"] <= 1 for row in rows.values())
    assert any(row["zeroed_dice"] != row["dice"] for row in rows.values())
    cards = [json.loads(file.read_text("utf-8")) for file in sorted((tmp_path / "work" / "tiny").glob("*/model.json"))]
    assert [card["pretraining"]["weights"]["global_local"] for card in cards] == [0.1, 0.0]
    again = run(script, sets, tmp_path)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr


def test_a_row_is_a_process(script: Script, sets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its answer is there, or None after what went wrong was said."""
    ablation = importlib.import_module("ablation")
    asked = ablation.Pretraining(
        set_folder=str(sets / "none"),
        pool=(),
        out=str(tmp_path / "out"),
        weights={},
        minutes=None,
        steps=1,
        device="cpu",
        threads=1,
    )
    assert ablation._child("pretrain", asked, 1) is None
    told = capfd.readouterr().err
    assert str(sets / "none") in told
    assert told.count("\n") == 1


def test_only_variants_with_consistencies_keep_volumes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    weights = importlib.import_module("ablation").weights
    assert {name: weights(name).get("spread") for name in ("mae", "mae_g", "mae_gg", "glmae", "glmae_dense")} == {
        "mae": 0.0,
        "mae_g": 0.0,
        "mae_gg": None,
        "glmae": None,
        "glmae_dense": None,
    }
