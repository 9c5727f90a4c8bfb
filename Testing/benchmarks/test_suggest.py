"""The benchmark of suggested scans: who may be chosen, in which order rows are run, and what the summary says."""

from __future__ import annotations

import importlib
import json
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
    rows = [(data.name, seed, choice) for data, seed, choice in suggest.planned(sets, [0, 1], 1, 4)]
    assert rows == [
        ("large", 0, "suggested"),
        ("large", 0, "random"),
        ("large", 1, "suggested"),
        ("large", 1, "random"),
    ], "four of four is no choice, so the small set is left out"


def test_summary_compares_pairs_only(suggest):
    same = {"start": 1, "added": 4, "method": "glmae", "minutes": 3, "device": "cpu", "threads": 1}
    same |= {"test_scans": 2, "set": "a"}
    rows = [
        same | {"seed": 0, "choice": "suggested", "dice": 0.8},
        same | {"seed": 0, "choice": "random", "dice": 0.7},
        same | {"seed": 1, "choice": "suggested", "dice": 0.1},
    ]
    assert suggest.summary(rows) == "a: suggested 0.800, random 0.700, difference +0.100 over 1 seeds"
    assert suggest.summary(rows[1:]) == "no set has both choices yet"
