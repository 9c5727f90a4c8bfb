"""The text behind "Check my set-up"."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer

from GLMAESegmentationLib.setup import set_up_report as report
from GLMAESegmentationLib.setup.packages import Package
from GLMAESegmentationLib.setup.set_up_report import run_check, set_up_report

FOUND = [Package("torch", "2.8", "2.5.1", "too old"), Package("numpy", "1.26", "2.4.6", "installed")]


def test_the_check_is_found_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its help only: Testing/engine/test_set_up_check.py runs all of it."""
    monkeypatch.delattr(slicer, "app", raising=False)  # another test's stand-in
    command = (*report.check_command(), "--help")
    monkeypatch.setattr(report, "check_command", lambda: command)
    text = set_up_report(run_check())
    assert text.startswith("Not in the Slicer application\nusage: python -m glmae.set_up_check")
    assert text.endswith("Packages for Slicer: all installed")


def test_what_is_wrong_is_in_the_text_and_the_home_folder_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer, "app", SimpleNamespace(applicationVersion="5.12.3", revision="34567"), raising=False)
    text = set_up_report(f"Device cpu: does not work: {Path.home()}/x", FOUND)
    assert text.splitlines() == [
        "3D Slicer 5.12.3 (revision 34567)",
        "Device cpu: does not work: ~/x",
        "Packages for Slicer: torch 2.5.1 too old",
        text.splitlines()[-1],
    ]
    assert "PyTorch 2.8 or later (there is 2.5.1)" in text


def test_a_python_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    assert run_check(str(tmp_path / "no such python")).startswith("The check did not run: ")
