"""The benchmark of what to hold out: which scans each way holds out, and what it expects beside what was measured."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCANS = ["a", "b", "c", "d"]


@pytest.fixture
def held_out(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("held_out")


def rows(held_out: ModuleType, training: float, other: float, new: float) -> list[dict]:
    """Each model finds the scans that it knows with one Dice, the others with another; the finished one is as good."""
    made = []
    for model, (indices, share) in held_out.MODELS.items():
        dice = {name: {"liver": training if at in indices else other} for at, name in enumerate(SCANS)}
        row = {"set": "x", "seed": 0, "model": model, "steps": round(360 * share), "labelled": SCANS, "dice": dice}
        row |= {"training": [SCANS[at] for at in indices], "new": []}
        if model == "whole":
            row["new"], row["dice"] = ["e"], dice | {"e": {"liver": new}}
        made.append(row)
    return made


@pytest.mark.parametrize(
    ("way", "cases"),
    [
        ("two halves", ["case-01", "case-02", "case-03", "case-04"]),
        ("two quarters", ["case-01", "case-04"]),
        ("one half", ["case-03", "case-04"]),
        ("one quarter", ["case-04"]),
    ],
)
def test_each_way_is_scored_on_what_it_holds_out(held_out, way, cases):
    models = {row["model"]: row for row in rows(held_out, 0.9, 0.6, 0.7)}
    scores = held_out.forecast(models, way)
    assert [row["alias"] for row in scores["cases"]] == cases
    assert scores["mean_dice"] == pytest.approx(0.6), "without progress nothing is credited"


def test_a_row_for_each_set_and_seed_and_the_mean_difference(held_out):
    found = rows(held_out, 0.9, 0.6, 0.7)
    lines = held_out.table(found)
    assert lines[2].startswith("| x | 0 | 0.700 | 0.600 (")
    assert lines[-1].count("1 of 1 said, -10.0, apart 10.0, 1 within") == len(held_out.WAYS)
    assert len(held_out.table(found[:-1])) == 3, "a run that is not whole is left out"


def test_what_would_be_withheld_is_not_counted(held_out):
    found = rows(held_out, 0.9, 0.6, 0.7)
    for row in found:
        if row["model"].endswith("half"):
            row["dice"] = {name: {"liver": 0.1} for name in SCANS}
    last = held_out.table(found)[-1]
    assert "| 0 of 1 said | 1 of 1 said" in last
