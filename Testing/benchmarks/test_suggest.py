"""The benchmark of suggested scans: who may be chosen, in which order rows are run, and what the summary says."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def suggest(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("suggest")


def data_set(folder: Path, pool: int, labels: int) -> Path:
    """A set whose pool has `pool` scans, `labels` of them labelled; files are empty, as only names are looked at."""
    for kind, count in (("images", pool + 1), ("labels", labels)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            (folder / kind / f"{number}.nii.gz").touch()
    files = [f"{number}.nii.gz" for number in range(pool + 1)]
    split = {"few_label": {"1": files[:1]}, "pool": files[:-1], "test": files[-1:]}
    (folder / "split.json").write_text(json.dumps({"seeds": {"seed0": split, "seed1": split}}), encoding="utf-8")
    return folder


def test_only_labelled_scans_of_the_pool_are_candidates(suggest, tmp_path):
    data_set(tmp_path / "large", pool=8, labels=7)
    data_set(tmp_path / "small", pool=5, labels=5)
    sets = suggest.find_data_sets(tmp_path, None)
    assert suggest.candidates(sets[0], 0, 1) == ["1", "2", "3", "4", "5", "6"]
    few = suggest.candidates(sets[0], 0, 1, 4)
    assert len(few) == 4
    assert few == suggest.candidates(sets[0], 0, 1, 4)
    assert set(few) < set(suggest.candidates(sets[0], 0, 1))
    rows = [(data.name, seed, choice) for data, seed, choice in suggest.planned(sets, [0, 1], 1, 4)]
    assert rows == [
        ("large", 0, "suggested"),
        ("large", 0, "random"),
        ("large", 1, "suggested"),
        ("large", 1, "random"),
    ], "four of four is no choice, so the small set is left out"


def test_summary_compares_pairs_only(suggest):
    same = {"start": 1, "added": 4, "candidates": 12, "method": "glmae", "minutes": 3, "device": "cpu", "threads": 1}
    same |= {"test_scans": 2, "set": "a"}
    rows = [
        same | {"seed": 0, "choice": "suggested", "dice": 0.8},
        same | {"seed": 0, "choice": "random", "dice": 0.7},
        same | {"seed": 1, "choice": "suggested", "dice": 0.1},
    ]
    assert suggest.summary(rows) == "a: suggested 0.800, random 0.700, difference +0.100 over 1 seeds"
    assert suggest.summary(rows[1:]) == "no set has both choices yet"


def test_both_choices_are_trained_and_scored(suggest, sample_sets, tmp_path, capsys):
    """The whole way on bundled scans, in seconds: one more scan of two, suggested and drawn."""
    words = ["--data", str(sample_sets), "--seeds", "0", "--added", "1", "--minutes", "0.03", "--device", "cpu"]
    words += ["--out", str(tmp_path / "suggest.json")]
    assert suggest.main(words) == 0
    rows = json.loads((tmp_path / "suggest.json").read_text(encoding="utf-8"))["rows"]
    assert [row["choice"] for row in rows] == ["suggested", "random"]
    for row in rows:
        assert set(row["scans"]) < {"hippocampus_207", "hippocampus_003"}
        assert 0 <= row["dice"] <= 1
        assert row["cases"] == ["hippocampus_057"]
    assert "difference" in capsys.readouterr().out
    assert suggest.main(words) == 0, "nothing is left to do"
    assert len(json.loads((tmp_path / "suggest.json").read_text(encoding="utf-8"))["rows"]) == 2


@pytest.fixture
def sample_sets(tmp_path: Path) -> Path:
    """A set of four bundled scans: one labelled first, three in the pool, one to test on."""
    samples = REPOSITORY / "GLMAESegmentation" / "Resources" / "SampleScans"
    names = ["hippocampus_039", "hippocampus_207", "hippocampus_003", "hippocampus_057"]
    for kind in ("images", "labels"):
        (tmp_path / "my sets" / "tiny" / kind).mkdir(parents=True)
        for name in names:
            shutil.copy(samples / kind / f"{name}.nii.gz", tmp_path / "my sets" / "tiny" / kind)
    files = [f"{name}.nii.gz" for name in names]
    split = {"few_label": {"1": files[:1]}, "pool": files[:3], "test": files[3:]}
    text = json.dumps({"seeds": {"seed0": split}})
    (tmp_path / "my sets" / "tiny" / "split.json").write_text(text, encoding="utf-8")
    return tmp_path / "my sets"
