"""What is said before a training: odd labels, the device, the memory. Nothing is trained or written."""

from __future__ import annotations

import SimpleITK as sitk

from glmae.cli import main
from glmae.events import recorded
from glmae.segmentation.requirements import check


def test_good_labels(few_scans):
    before = sorted(few_scans.rglob("*"))
    events: list[dict] = []
    findings = check(images=few_scans / "images", labels=few_scans / "labels", device="cpu", events=recorded(events))
    assert findings == []
    assert [e["event"] for e in events if e["event"] != "progress"] == ["started", "info", "estimate", "finished"]
    estimate = next(e for e in events if e["event"] == "estimate")
    assert 1e8 < estimate["memory_bytes"] < 4e9
    assert estimate["free_bytes"] > estimate["memory_bytes"]
    assert "CPU" in events[1]["message"]
    assert sorted(few_scans.rglob("*")) == before


def test_a_slip_is_a_warning_and_a_damaged_label_ends_with_status_1(fine_scans, capsys):
    path = fine_scans / "labels" / "hippocampus_003.nii.gz"
    label = sitk.ReadImage(str(path))
    label[0, 0, 0] = label[1, 0, 0] = 1  # far from the rest
    sitk.WriteImage(label, str(path))
    words = ["check", "--images", str(fine_scans / "images"), "--labels", str(fine_scans / "labels"), "--device", "cpu"]
    events: list[dict] = []
    findings = check(images=fine_scans / "images", labels=fine_scans / "labels", device="cpu", events=recorded(events))
    assert [(finding.check, finding.cases) for finding in findings] == [("island", ("hippocampus_003",))]
    (warning,) = (e for e in events if e["event"] == "warning")
    assert (warning["check"], warning["case"]) == ("island", "hippocampus_003")
    path.write_bytes(b"no scan")
    assert main(words) == 1
    assert "hippocampus_003" in capsys.readouterr().err
