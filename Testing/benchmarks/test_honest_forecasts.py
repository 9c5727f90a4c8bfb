"""The Dice that models expect of themselves, beside the Dice on test scans: the table, and the rows that there are."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "few_label.json"
LATER = RESULTS.with_name("forecasts.json")


@pytest.fixture
def forecast(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("forecast")


def run(labels: int, dice: float, expected: float | None, interval: list[float] | None = None) -> dict:
    return {"set": "a", "labels": labels, "dice": dice, "predicted_dice": expected, "predicted_interval": interval}


def test_table(forecast):
    rows = [run(1, 0.5, None), run(4, 0.6, 0.7, [0.65, 0.75]), run(4, 0.8, 0.8, [0.7, 0.9]), run(2, 0.5, 0.4)]
    assert forecast.optimism(forecast.forecasts(rows)) == pytest.approx(0)
    lines = forecast.table(rows)
    assert lines[-3:] == [
        "| a | 2 | 1 | 0.400 | 0.500 | -10.0 | – |",
        "| a | 4 | 2 | 0.750 | 0.700 | +5.0 | 1 of 2 |",
        "| all |  | 3 | 0.633 | 0.633 | +0.0 | 1 of 2 |",
    ]
    assert forecast.table(rows[:1]) == []


def test_the_models_of_the_benchmark_were_honest(forecast):
    """Over all runs of the few-label benchmark with the defaults."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    runs = forecast.forecasts(row for row in rows if not row.get("settings"))
    if not runs:
        pytest.skip("no run of the benchmark has expected a Dice yet")
    assert abs(forecast.optimism(runs)) <= forecast.TOLERANCE


def test_none_is_optimistic_with_the_later_runs(forecast):
    """Those were expected too low (docs/benchmarks.md); too high would be worse, and none lies outside its interval."""
    rows = [json.loads(path.read_text(encoding="utf-8"))["rows"] for path in (RESULTS, LATER)]
    runs = forecast.forecasts(row for part in rows for row in part if not row.get("settings"))
    assert forecast.optimism(runs) <= forecast.TOLERANCE
    for row in forecast.forecasts(rows[1]):
        low, high = row["predicted_interval"]
        assert low <= row["dice"] <= high
