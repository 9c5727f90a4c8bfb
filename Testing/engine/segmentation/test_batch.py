"""Many scans: a state for each, one failure does not stop the rest, and a report that tells what to look at."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series
from threshold import CLASSES, MODEL, batch_of, thresholded
from threshold import run as run_batch

from glmae.errors import Stopped, TooLargeError
from glmae.events import recorded, silent
from glmae.files import whole_file
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.segmentation.report import ModelMark, Report
from glmae.segmentation.report_page import write_page
from glmae.segmentation.thumbnail import SIDE, draw_thumbnail

NAMES = ["hippocampus_003", "hippocampus_039", "hippocampus_057"]


@pytest.fixture
def scans(sample_scans, tmp_path) -> Path:
    folder = tmp_path / "Scans à 海馬"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(sample_scans / "images" / f"{name}.nii.gz", folder)
    return folder


@pytest.fixture
def segmented(scans, tmp_path):
    """Run a batch; gives the last state of each case, with the events in `segmented.events`."""

    def run(segment_one=thresholded, images=None, **changes) -> dict[str, dict]:
        run.events = []
        try:
            run_batch(batch_of(images or [scans], tmp_path / "out", recorded(run.events), **changes), segment_one)
        finally:
            run.states = {event["case"]: event for event in run.events if event["event"] == "case"}
        return run.states

    return run


def written(out: Path, name: str) -> bool:
    """Wait for a result, which is written in a thread; whether it came within a minute."""
    for _ in range(1200):
        if (out / f"{name}.seg.nrrd").exists():
            return True
        time.sleep(0.05)
    return False


def report_of(out: Path) -> dict[str, dict]:
    content = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    return {row["case"]: row for row in content["cases"]}


def test_the_report(segmented, scans, tmp_path):
    out = tmp_path / "out"
    states = segmented()
    assert [state["state"] for state in states.values()] == ["done"] * 3
    rows = report_of(out)
    assert list(rows) == NAMES
    for name, row in rows.items():
        label = sitk.ReadImage(str(out / f"{name}.seg.nrrd"))
        voxel_ml = np.prod(label.GetSpacing()) / 1000
        values = sitk.GetArrayViewFromImage(label)
        assert row["volumes_ml"] == {
            "bright": pytest.approx((values == 1).sum() * voxel_ml, abs=1e-3),
            "brightest": pytest.approx((values == 7).sum() * voxel_ml, abs=1e-3),
        }
        assert row["size"] == list(label.GetSize())
        assert row["model"] == {"name": "threshold", "sha256": "0" * 64}
        assert ("uncertain", "brightest") in {(flag["kind"], flag["class"]) for flag in row["flags"]}
        assert row["flags"] == states[name]["flags"]
        assert row["seconds"] > 0
    with (out / "report" / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["case"] for line in table] == NAMES
    assert float(table[0]["bright (ml)"]) == pytest.approx(rows[NAMES[0]]["volumes_ml"]["bright"], rel=1e-3)
    assert "brightest" in table[0]["doubts"]
    assert int(table[0]["flags"]) == len(rows[NAMES[0]]["flags"])
    # Only names of files, and of classes: no path tells where a patient's folder is.
    assert str(tmp_path) not in (out / "report" / "report.json").read_text(encoding="utf-8")
    last = segmented.events[-1]
    assert (last["event"], last["done"], last["failed"], last["flagged"]) == ("finished", 3, [], 3)
    assert Path(last["report"]) == out / "report" / "report.json"


class Page(HTMLParser):
    """What a page holds: the pictures, and the text of each element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: list[Path] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(Path(unquote(dict(attrs)["src"])))
        elif tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, "every element is closed"

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)


def test_a_page_to_leaf_through(segmented, scans, tmp_path):
    report, classes = Report(tmp_path / "out"), ClassTable((SegmentClass(1, "a <b>", color=(1, 0, 0.5)),))
    odd = "R&D 'x' #1? 50% \u6d77"
    shutil.copy(scans / f"{NAMES[0]}.nii.gz", scans / f"{odd}.nii.gz")
    (scans / "broken <i>.nii.gz").write_bytes(b"no scan")
    segmented()
    records = [replace(record, flags=record.flags[: record.case == NAMES[2]]) for record in report.records()]
    write_page(report, records, classes)
    page = Page(report.page)
    assert page.texts["figcaption"] == [NAMES[2], odd, *NAMES[:2]], "the doubtful one first"
    assert [path.name for path in page.pictures] == [f"{name}.seg.nrrd.png" for name in page.texts["figcaption"]]
    assert all((report.folder / path).is_file() for path in page.pictures)
    assert page.texts["h1"] == ["Segmentations by threshold"]
    assert page.texts["p"] == ["4 done, 1 doubtful, 1 failed", "a <b>"]
    assert "rgb(100%, 0%, 50%)" in report.page.read_text(encoding="utf-8")
    doubt, failure = (text for text in page.texts["li"])
    assert doubt == next(record.flags[0].message for record in records if record.flags)
    assert failure.startswith("broken <i>.nii.gz")
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(report.folder / page.pictures[0]))).astype(int)
    for entry in CLASSES.with_colors():
        color = 255 * np.array(entry.color)
        assert (np.abs(picture - color).max(axis=2) < 40).sum() > 50, "outlines in the colors of the classes"


def test_a_picture_is_seen_as_in_slicer(tmp_path):
    """The patient's left is on the right, the front above, the head above: for every order of axes."""
    values = np.zeros((40, 40, 40), dtype=np.float32)  # identity: I to the left, J to the back, K to the head
    values[30:, :8, 30:] = 1.0  # head, front, left
    scan = sitk.GetImageFromArray(values)
    label = sitk.Cast(scan, sitk.sitkUInt8)
    for code in ("LPS", "RAS", "PIR"):
        draw_thumbnail(tmp_path / f"{code}.png", sitk.DICOMOrient(scan, code), sitk.DICOMOrient(label, code), CLASSES)
    pictures = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int) for path in sorted(tmp_path.iterdir())]
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])
    axial, coronal, sagittal = (pictures[0][:, n * SIDE : (n + 1) * SIDE] for n in range(3))
    for view, corner in ((axial, (0, -1)), (coronal, (0, -1)), (sagittal, (0, 0))):
        lit = view.sum(axis=2) > 150
        assert lit[corner]
        assert lit.mean() < 0.1


def test_a_second_run_does_only_what_is_missing(segmented, tmp_path):
    segmented()
    (tmp_path / "out" / f"{NAMES[1]}.seg.nrrd").unlink()
    before = (tmp_path / "out" / f"{NAMES[0]}.seg.nrrd").stat().st_mtime_ns
    states = segmented()
    assert [state["state"] for state in states.values()] == ["skipped", "done", "skipped"]
    assert (tmp_path / "out" / f"{NAMES[0]}.seg.nrrd").stat().st_mtime_ns == before
    assert list(report_of(tmp_path / "out")) == NAMES


def test_a_second_run_looks_once_at_each_result(segmented, scans, tmp_path, monkeypatch):
    """Looking at all others for each of them took minutes for thousands of results."""
    for number in range(7):
        shutil.copy(scans / f"{NAMES[0]}.nii.gz", scans / f"copy {number}.nii.gz")
    segmented()
    looked: list[str] = []
    real = Path.exists

    def counted(self, **how):
        if self.name.endswith(".seg.nrrd") and self.parent == tmp_path / "out":
            looked.append(self.name)
        return real(self, **how)

    monkeypatch.setattr(Path, "exists", counted)
    run_batch(batch_of([scans], tmp_path / "out", silent()))
    results = len(list((tmp_path / "out").glob("*.seg.nrrd")))
    assert results == 10
    assert len(looked) <= 3 * results


def test_a_record_that_comes_while_the_report_is_written_is_in_it(segmented, tmp_path, monkeypatch):
    """Processes that share a batch each write the report; the last one writes all."""
    segmented()
    report = Report(tmp_path / "out")
    late = replace(report.records()[0], case="late", file="late.seg.nrrd")
    (tmp_path / "out" / "late.seg.nrrd").touch()
    real, added = whole_file, []

    def meanwhile(path):
        if path == report.csv and not added:
            added.append(late)
            report.add(late)
        return real(path)

    monkeypatch.setattr("glmae.segmentation.report.whole_file", meanwhile)
    assert late in report.write()
    rows = json.loads(report.json.read_text(encoding="utf-8"))["cases"]
    assert "late" in [row["case"] for row in rows]
    assert "late" in report.csv.read_text(encoding="utf-8-sig")


def test_results_of_another_model_are_kept_and_named(segmented, tmp_path):
    segmented()
    shutil.copy(tmp_path / "out" / f"{NAMES[0]}.seg.nrrd", tmp_path / "from elsewhere")
    (tmp_path / "out" / "report" / "cases" / f"{NAMES[1]}.seg.nrrd.json").unlink()
    states = segmented(model=ModelMark("liver 2", "f" * 64))
    assert [state["state"] for state in states.values()] == ["skipped"] * 3
    assert "another model (threshold)" in states[NAMES[0]]["message"]
    assert "not known" in states[NAMES[1]]["message"]
    last = segmented.events[-1]
    assert last["other_model"] == [NAMES[0], NAMES[2]]
    assert "another model" in last["message"]
    assert {row["model"]["name"] for row in report_of(tmp_path / "out").values()} == {"threshold"}


def test_the_mark_of_a_model_is_that_of_its_weights(tmp_path):
    for name, weights in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(weights)
    a, b, c = (ModelMark.of(tmp_path / name) for name in "abc")
    assert a.sha256 == b.sha256 != c.sha256
    assert (a.name, b.name) == ("a", "b")


def test_a_failed_case_is_tried_again(segmented, scans, tmp_path):
    whole = (scans / f"{NAMES[1]}.nii.gz").read_bytes()
    (scans / f"{NAMES[1]}.nii.gz").write_bytes(whole[:3000])
    states = segmented()
    assert [state["state"] for state in states.values()] == ["done", "failed", "done"]
    assert NAMES[1] in segmented.events[-1]["message"]
    row = report_of(tmp_path / "out")[NAMES[1]]
    assert (row["state"], row["error"]) == ("failed", "ScanError")
    assert row["message"].startswith(f"{NAMES[1]}.nii.gz is incomplete"), "the file, but not where it lies"
    assert states[NAMES[1]]["message"].startswith(str(scans))
    (scans / f"{NAMES[1]}.nii.gz").write_bytes(whole)
    assert [state["state"] for state in segmented().values()] == ["skipped", "done", "skipped"]
    assert {row["state"] for row in report_of(tmp_path / "out").values()} == {"done"}


def test_what_nobody_foresaw_stops_one_case_only(segmented):
    def clumsy(case):
        if case.name == NAMES[0]:
            raise ZeroDivisionError("division by zero")
        if case.name == NAMES[1]:
            raise MemoryError
        return thresholded(case)

    states = segmented(clumsy)
    assert [state["state"] for state in states.values()] == ["failed", "failed", "done"]
    assert "ZeroDivisionError" in states[NAMES[0]]["message"]
    assert "memory" in states[NAMES[1]]["message"]


def test_a_result_is_written_while_the_next_scan_is_in_work(segmented, tmp_path):
    seen = []

    def waiting(case):
        if case.name == NAMES[1]:
            seen.append(written(tmp_path / "out", NAMES[0]))
        return thresholded(case)

    assert [state["state"] for state in segmented(waiting).values()] == ["done"] * 3
    assert seen == [True]
    states = [event["case"] for event in segmented.events if event.get("state") in ("running", "done")]
    assert states[:3] == [NAMES[0], NAMES[1], NAMES[0]], "and is told at once"


def test_a_scan_that_fits_only_when_the_one_before_is_written(scans, tmp_path):
    """It was refused while the result before it was kept in memory; the next one does not fit at all."""
    tried, events = [], []

    def short_of_memory(case, beside):
        tried.append((case.name, beside))
        written_first = (tmp_path / "out" / f"{NAMES[0]}.seg.nrrd").exists()
        if case.name == NAMES[2] or (case.name == NAMES[1] and (beside or not written_first)):
            raise TooLargeError(f"{case.name}: needs about 25 GB")

    batch_of([scans], tmp_path / "out", recorded(events)).run(short_of_memory, lambda case, scan: thresholded(case))
    states = {event["case"]: event for event in events if event["event"] == "case"}
    assert tried[:3] == [(NAMES[0], False), (NAMES[1], True), (NAMES[1], False)], "alone, and nothing beside it"
    assert [state["state"] for state in states.values()] == ["done", "done", "failed"]
    assert tried[-3:] == [(NAMES[2], True), (NAMES[2], False), (NAMES[2], False)]
    assert "25 GB" in states[NAMES[2]]["message"]


def test_stopped_in_the_middle_of_a_case(segmented, tmp_path):
    def stopping(case):
        if case.name == NAMES[1]:
            raise Stopped("stopped")
        return thresholded(case)

    with pytest.raises(Stopped):
        segmented(stopping)
    assert list(report_of(tmp_path / "out")) == NAMES[:1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{NAMES[0]}.seg.nrrd", "report"]


def test_a_folder_that_vanishes_is_not_made_again(segmented, tmp_path):
    """A drive was taken away: nothing is written to where it was, and it can come back."""
    out, away = tmp_path / "out", tmp_path / "away"

    def unplugged(case):
        if case.name == NAMES[1]:
            written(out, NAMES[0])
            out.rename(away)
        return thresholded(case)

    states = segmented(unplugged)
    assert [state["state"] for state in states.values()] == ["done", "failed", "failed"]
    assert {states[name]["name"] for name in NAMES[1:]} == {"StorageError"}
    assert "vanished" in states[NAMES[2]]["message"]
    assert not out.exists()
    away.rename(out)
    assert [state["state"] for state in segmented().values()] == ["skipped", "done", "done"]


def test_a_full_disk_is_a_state_and_leaves_nothing_half_written(segmented, tmp_path, monkeypatch):
    """The system refuses to write the second result; the report of it fits."""
    real = os.replace

    def replace_unless_full(source, target):
        if Path(target).name == f"{NAMES[1]}.seg.nrrd":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", replace_unless_full)
    states = segmented()
    assert [state["state"] for state in states.values()] == ["done", "failed", "done"]
    assert "disk is full" in states[NAMES[1]]["message"]
    assert list(tmp_path.rglob(".writing*")) == []
    assert report_of(tmp_path / "out")[NAMES[1]]["state"] == "failed"


@contextmanager
def as_somebody_else():
    """The superuser may read everything, so for a while this process is not he."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are set in other ways on Windows")
def test_no_permission_to_read(scans):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder, out = Path(name) / "scans", Path(name) / "out"
        shutil.copytree(scans, folder)
        os.chmod(name, 0o755)
        out.mkdir()
        out.chmod(0o777)
        (folder / "closed").mkdir(mode=0o000)
        (folder / f"{NAMES[1]}.nii.gz").chmod(0o000)
        events: list[dict] = []
        with as_somebody_else():
            failed = run_batch(batch_of([folder], out, recorded(events)))
        (folder / "closed").chmod(0o755)
        assert sorted(failed) == ["closed", NAMES[1]]
        messages = {event["case"]: event["message"] for event in events if event.get("state") == "failed"}
        assert all("no permission" in message for message in messages.values())
        assert {path.name for path in out.glob("*.nrrd")} == {f"{name}.seg.nrrd" for name in (NAMES[0], NAMES[2])}


def test_bad_scans_among_good_ones(segmented, scans, tmp_path):
    """Each has a state with a sentence of its own, and the good ones, before, between and after them, are done."""
    good = sitk.ReadImage(str(scans / f"{NAMES[0]}.nii.gz"))
    gray = sitk.Cast(sitk.RescaleIntensity(good, 0, 255), sitk.sitkUInt8)
    sitk.WriteImage(sitk.JoinSeries([good, good]), str(scans / "b four dimensions.nii.gz"))
    sitk.WriteImage(sitk.Compose(gray, gray, gray), str(scans / "c tinted.nrrd"))
    sitk.WriteImage(good[:, :, 10:12], str(scans / "d two voxels thin.nii.gz"))
    sitk.WriteImage(good[:, :, 10:11], str(scans / "e one voxel thin.nii.gz"))
    (scans / "f damaged.nii.gz").write_bytes((scans / f"{NAMES[0]}.nii.gz").read_bytes()[:4000])
    (scans / "g no scan.nrrd").write_text("a note", encoding="utf-8")
    (scans / "h two channels").mkdir()
    for number in (1, 2):
        shutil.copy(scans / f"{NAMES[0]}.nii.gz", scans / "h two channels" / f"{number}.nii.gz")
    ct = sitk.Cast(gray, sitk.sitkInt16)
    write_series(scans / "i gap", ct, number=4)
    (scans / "i gap" / "IM40015").unlink()
    for number in (5, 6):
        write_series(scans / "j one identifier for two", ct, number=number, uid=5)
    write_series(scans / "k one identifier and number", ct, number=7)
    write_series(scans / "k one identifier and number", ct[:, :, :20], number=7, names=[100 + n for n in range(20)])
    states = segmented()
    failed = {name: state["message"] for name, state in states.items() if state["state"] == "failed"}
    wanted = {
        "b four dimensions": "4 dimensions",
        "c tinted": "color",
        "e one voxel thin": "flat",
        "f damaged": "incomplete",
        "g no scan": "damaged",
        "h two channels": "2 channels",
        "i gap": "missing slices",
        "k one identifier and number": "is a copy of",
    }
    assert set(failed) == set(wanted)
    for name, words in wanted.items():
        assert words in failed[name]
        assert "\n" not in failed[name]
    done = {name for name, state in states.items() if state["state"] == "done"}
    # Two series of one identifier that are told apart by their numbers are both segmented.
    apart = {f"j one identifier for two series {number}" for number in (5, 6)}
    assert done == {*NAMES, "d two voxels thin", *apart}
    rows = report_of(tmp_path / "out")
    assert {name for name, row in rows.items() if row["state"] == "failed"} == set(wanted)


def test_a_damaged_record_is_passed_over(segmented, tmp_path):
    segmented()
    path = tmp_path / "out" / "report" / "cases" / f"{NAMES[0]}.seg.nrrd.json"
    path.write_text("{", encoding="utf-8")
    report = Report(tmp_path / "out")
    assert [record.case for record in report.records()] == NAMES[1:]
    record = report.record(f"{NAMES[1]}.seg.nrrd")
    assert record is not None
    report.add(replace(record, model=MODEL))
    assert report.record(f"{NAMES[1]}.seg.nrrd") == record


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_line_break_in_a_name(segmented, scans, tmp_path):
    (scans / "hippocampus_003.nii.gz").rename(scans / "a\nb\t\x07.nii.gz")
    assert {state["state"] for state in segmented().values()} == {"done"}
    assert Page(tmp_path / "out" / "report" / "index.html").pictures
    assert segmented.events[-1]["event"] == "finished"


def test_a_picture_that_cannot_be_drawn_loses_nothing(segmented, tmp_path, monkeypatch):
    def broken(*arguments):
        raise ValueError("no contrast")

    monkeypatch.setattr("glmae.segmentation.batch.draw_thumbnail", broken)
    states = segmented()
    assert {state["state"] for state in states.values()} == {"done"}
    assert list(report_of(tmp_path / "out")) == NAMES
    told = [event["message"] for event in segmented.events if event["event"] == "warning"]
    assert any("missing (no contrast)" in message for message in told)
    assert Page(tmp_path / "out" / "report" / "index.html").pictures == []
    assert segmented.events[-1]["event"] == "finished"
