"""The text behind "Check my set-up"."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer

from GLMAESegmentationLib.setup.report import set_up_report


def test_outside_slicer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(slicer, "app", raising=False)  # another test's stand-in
    assert set_up_report("Device cpu: works\n", "own") == (
        "Not in the Slicer application\nEngine's Python: own\nDevice cpu: works"
    )


def test_the_home_folder_is_not_in_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer, "app", SimpleNamespace(applicationVersion="5.12.3", revision="34567"), raising=False)
    text = set_up_report(f"Device cpu: does not work: {Path.home()}/x", f"other {Path.home()}/python lacks torch")
    assert text.splitlines() == [
        "3D Slicer 5.12.3 (revision 34567)",
        "Engine's Python: other ~/python lacks torch",
        "Device cpu: does not work: ~/x",
    ]
