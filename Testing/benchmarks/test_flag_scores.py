"""Precision and recall of flags, on a report and scores that can be counted by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def flag_scores(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from flag_scores import flag_scores as function

    yield function
    del sys.modules["flag_scores"]


def flag(kind: str, name: str | None) -> dict:
    return {"kind": kind, "class": name, "message": ""}


def row(case: str, name: str, dice: float | None) -> dict:
    return {"case": case, "class": name, "dice": dice}


def test_counted_by_hand(flag_scores):
    report = {
        "cases": [
            {"case": "a", "state": "done", "flags": [flag("volume", "x")]},
            {"case": "b", "state": "done", "flags": [flag("spacing", None)]},
            {"case": "c", "state": "done", "flags": []},
            {"case": "d", "state": "failed", "flags": []},
        ]
    }
    scores = {
        "cases": [
            row("a", "x", 0.2),
            row("a", "y", 0.9),
            row("b", "x", 0.8),
            row("b", "y", 0.1),
            row("c", "x", 0.5),
            row("c", "y", None),
            row("d", "x", 0.0),
        ]
    }
    found = flag_scores(report, scores)
    share = pytest.approx(2 / 3, abs=1e-4)
    assert found["classes"] == {"count": 5, "bad": 3, "flagged": 3, "hits": 2, "precision": share, "recall": share}
    # a: 0.55 and flagged, b: 0.45 and flagged, c: 0.5 and not flagged
    assert (found["cases"]["hits"], found["cases"]["precision"]) == (2, 1.0)
    assert found["kinds"] == {"spacing": {"flagged": 2, "hits": 1}, "volume": {"flagged": 1, "hits": 1}}


def test_nothing_wrong_and_nothing_flagged(flag_scores):
    report = {"cases": [{"case": "a", "state": "done", "flags": []}]}
    found = flag_scores(report, {"cases": [row("a", "x", 0.9)]})
    assert (found["classes"]["precision"], found["classes"]["recall"]) == (None, None)
