"""`segment` on many scans with a real network: what only shows when all parts work together."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from threading import Event

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dicom_series import write_series

from glmae.cli import main
from glmae.errors import RequestError
from glmae.events import recorded
from glmae.segmentation import batch, inference
from glmae.segmentation.batch import segment
from glmae.segmentation.inference import segment_case
from glmae.segmentation.model import load_model
from glmae.segmentation.network import SegmentationNetwork

NAME = "hippocampus_057"


@pytest.fixture
def scan(sample_scans):
    return sample_scans / "images" / f"{NAME}.nii.gz"


def report_of(out) -> dict:
    return json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))


def test_the_report_tells_model_and_doubts(untrained_model, scan, tmp_path):
    events: list[dict] = []
    assert segment(model=untrained_model, images=[scan], out=tmp_path, device="cpu", events=recorded(events)) == []
    (row,) = report_of(tmp_path)["cases"]
    assert row["model"]["name"] == "model"
    assert len(row["model"]["sha256"]) == 64
    found = [name for name, ml in row["volumes_ml"].items() if ml]
    assert set(row["uncertainty"]) == set(found)
    # A network that has learned nothing is unsure, and what it finds looks like no training case.
    assert {"uncertain", "volume"} <= {flag["kind"] for flag in row["flags"]}
    (done,) = [event for event in events if event.get("state") == "done"]
    assert done["flags"] == row["flags"]


def test_parts_are_disjoint_and_make_the_whole_report(untrained_model, scan, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    image = sitk.ReadImage(str(scan))[:16, :16, :16]
    for number in range(3):
        sitk.WriteImage(image, str(scans / f"scan {number}.nii.gz"))
    out, done = tmp_path / "out", []
    for part in ("1/2", "2/2"):
        words = ["--model", str(untrained_model), "--images", str(scans), "--out", str(out), "--device", "cpu"]
        assert main(["segment", *words, "--part", part, "--events"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        done.append([event["case"] for event in events if event.get("state") == "done"])
    assert done == [["scan 0", "scan 2"], ["scan 1"]]
    assert [row["case"] for row in report_of(out)["cases"]] == ["scan 0", "scan 1", "scan 2"]
    assert main(["segment", *words, "--part", "4/4"]) == 0, "a part may be empty"


def test_a_batch_killed_at_any_moment_goes_on(untrained_model, scan, tmp_path):
    """What a result is called is whole after each kill, and in the end the same as without one."""
    scans, out, chance = tmp_path / "scans", tmp_path / "out", random.Random(7)
    scans.mkdir()
    image = sitk.ReadImage(str(scan))
    for number in range(3):
        sitk.WriteImage(image[: 16 + number, :16, :16], str(scans / f"scan {number}.nii.gz"))
    words = ["segment", "--model", str(untrained_model), "--images", str(scans), "--device", "cpu", "--events"]
    child = [sys.executable, "-m", "glmae", *words, "--out", str(out)]
    for done in (1, 2):
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                done -= json.loads(line).get("state") in ("done", "skipped")
                if done == 0:
                    break
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
        for file in out.glob("scan*"):
            assert sitk.ReadImage(str(file)).GetSize()[1:] == (16, 16)
        for file in out.rglob("*.json"):
            json.loads(file.read_text(encoding="utf-8"))
    # What a kill may leave: a record that was written, but had not got its name yet.
    shutil.copy(out / "report" / "cases" / "scan 0.seg.nrrd.json", out / "report" / "cases" / ".writing-1a2b3c.json")
    for folder in (out, tmp_path / "whole"):
        assert segment(model=untrained_model, images=[scans], out=folder, device="cpu") == []
    assert [row["case"] for row in report_of(out)["cases"]] == [f"scan {number}" for number in range(3)]
    for number in range(3):
        names = (folder / f"scan {number}.seg.nrrd" for folder in (out, tmp_path / "whole"))
        one, other = (sitk.GetArrayFromImage(sitk.ReadImage(str(name))) for name in names)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("part", ["2", "0/2", "3/2", "a/b", "1/0"])
def test_a_part_that_cannot_be_is_refused(part, tmp_path, capsys):
    words = ["--model", str(tmp_path), "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["segment", *words, "--part", part]) == 2
    assert f"{part} is no part, like 2/8" in capsys.readouterr().err


def test_a_gpu_without_enough_memory_steps_down(untrained_model, scan, sample_scans, tmp_path, monkeypatch):
    """In place of a GPU stands a refusal, as torch words it: one scan fits window by window, the other not at all."""
    moved: list[str] = []
    opened = load_model(untrained_model, torch.device("cpu"))
    cpu, gpu = torch.device("cpu"), torch.device("cuda")

    def move(network, device):
        moved.append(str(device))
        return network

    def case_on(model, case, device, *rest, windows, **more):
        assert moved[-1] == str(device), "the network is where the work is"
        if device == gpu and (windows is None or case.name == NAME):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return segment_case(model, case, cpu, *rest, windows=windows, **more)

    monkeypatch.setattr(batch, "segment_case", case_on)
    monkeypatch.setattr("glmae.job.choose_device", lambda request: (gpu, "Computing on the GPU."))
    monkeypatch.setattr(batch, "load_model", lambda folder, device: opened)
    monkeypatch.setattr(batch, "release", lambda device: None)
    monkeypatch.setattr(SegmentationNetwork, "to", move)
    other = sample_scans / "images" / "hippocampus_003.nii.gz"
    events: list[dict] = []
    assert segment(model=untrained_model, images=[scan, other], out=tmp_path, events=recorded(events)) == []
    warned = [(event["case"], event["message"]) for event in events if event["event"] == "warning"]
    told = [(name, "one window" if "one window" in message else "CPU") for name, message in warned if "GPU" in message]
    assert told == [(NAME, "one window"), (NAME, "CPU"), ("hippocampus_003", "one window")]
    assert moved == ["cuda", "cuda", "cpu", "cuda", "cuda"]
    assert len(list(tmp_path.glob("*.seg.nrrd"))) == 2


def test_the_next_scan_is_read_while_one_is_computed(untrained_model, sample_scans, tmp_path, monkeypatch):
    """The network waits until the next scan has been read; one that cannot be read fails when its turn has come."""
    names = ["hippocampus_003", "hippocampus_039", "hippocampus_057"]
    for name in names:
        shutil.copy(sample_scans / "images" / f"{name}.nii.gz", tmp_path)
    damaged = tmp_path / f"{names[1]}.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    tried, reached = {name: Event() for name in names}, []
    real_read, real_maps = batch.read_scan, inference.scan_maps

    def read(model, case, *rest):
        try:
            return real_read(model, case, *rest)
        finally:
            tried[case.name].set()

    def maps(*words, **more):
        if not reached:
            reached.append(tried[names[1]].wait(60))
        return real_maps(*words, **more)

    monkeypatch.setattr(batch, "read_scan", read)
    monkeypatch.setattr(inference, "scan_maps", maps)
    events: list[dict] = []
    segment_now = {"model": untrained_model, "images": [tmp_path], "device": "cpu"}
    assert segment(**segment_now, out=tmp_path / "out", events=recorded(events)) == [names[1]]
    assert reached == [True]
    states = [(event["case"], event["state"]) for event in events if event["event"] == "case"]
    assert states.index((names[1], "running")) < states.index((names[1], "failed"))


def test_a_scan_is_not_read_in_advance_where_two_do_not_fit(untrained_model, sample_scans, tmp_path, monkeypatch):
    images = [sample_scans / "images" / f"hippocampus_{number}.nii.gz" for number in ("003", "039")]
    real, asked = batch.read_scan, []

    def read(model, case, events, beside=False):
        asked.append((case.name, beside))
        return real(model, case, events, beside)

    monkeypatch.setattr(batch, "read_scan", read)
    for free, twice in ((2_000_000_000, True), (8_000_000_000, False)):
        monkeypatch.setattr("glmae.scans.memory.free_ram", lambda free=free: free)
        asked.clear()
        out = tmp_path / str(free)
        assert segment(model=untrained_model, images=images, out=out, device="cpu") == []
        assert asked == [("hippocampus_003", False), ("hippocampus_039", True), ("hippocampus_039", False)][: 2 + twice]


def test_a_cpu_without_enough_memory_is_a_state(untrained_model, scan, tmp_path, monkeypatch):
    def maps(self, x):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to")

    monkeypatch.setattr(SegmentationNetwork, "maps", maps)
    events: list[dict] = []
    assert segment(model=untrained_model, images=[scan], out=tmp_path, device="cpu", events=recorded(events)) == [NAME]
    (failed,) = [event for event in events if event.get("state") == "failed"]
    assert failed["name"] == "MemoryError"
    assert "not enough memory" in failed["message"]


def test_a_scan_too_large_is_refused_before_it_is_read(untrained_model, scan, tmp_path, monkeypatch):
    """Under its limit the small scan is done, the micro-CT, of which there is only a header, is not."""
    (tmp_path / "bone.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 1500 1500 1500\nElementSpacing = 0.1 0.1 0.1\n"
        "ElementType = MET_USHORT\nElementDataFile = bone.raw\n",
        encoding="utf-8",
    )
    (tmp_path / "bone.raw").touch()
    monkeypatch.setattr("glmae.scans.memory.free_ram", lambda: 8_000_000_000)
    events: list[dict] = []
    scans = [tmp_path / "bone.mhd", scan]
    out = tmp_path / "out"
    assert segment(model=untrained_model, images=scans, out=out, device="cpu", events=recorded(events)) == ["bone"]
    (failed,) = [event for event in events if event.get("state") == "failed"]
    assert "about 25 GB of memory" in failed["message"]
    assert (out / f"{NAME}.seg.nrrd").exists()


def test_a_scan_that_cannot_hold_what_the_model_looks_for(untrained_model, scan, tmp_path):
    """A CT among the MR scans that the model knows is segmented, and doubtful as a whole; the others are not."""
    ct = sitk.Cast(sitk.RescaleIntensity(sitk.ReadImage(str(scan)), -1000, 900), sitk.sitkInt16)
    sitk.WriteImage(ct, str(tmp_path / "a knee.nrrd"))
    images = [tmp_path / "a knee.nrrd", scan]
    assert segment(model=untrained_model, images=images, out=tmp_path / "out", device="cpu") == []
    rows = {row["case"]: row for row in report_of(tmp_path / "out")["cases"]}
    assert {row["state"] for row in rows.values()} == {"done"}
    doubts = {
        name: [flag["message"] for flag in row["flags"] if flag["kind"] == "intensities"] for name, row in rows.items()
    }
    assert doubts[NAME] == []
    (doubt,) = doubts["a knee"]
    assert "Hounsfield" in doubt


def test_the_results_of_a_retrained_model_are_not_mixed(untrained_model, scan, tmp_path, capsys):
    """The same command with another model says that it made nothing, and of which model the results are."""
    other = tmp_path / "other"
    shutil.copytree(untrained_model, other)
    from safetensors.torch import load_file, save_file

    weights = load_file(other / "weights.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, other / "weights.safetensors")
    words = ["segment", "--images", str(scan), "--out", str(tmp_path / "out"), "--device", "cpu", "--model"]
    assert main([*words, str(untrained_model)]) == 0
    assert main([*words, str(untrained_model)]) == 0
    assert "another model" not in capsys.readouterr().out
    assert main([*words, str(other)]) == 0
    said = capsys.readouterr()
    assert f"results of another model were kept: {NAME}" in said.out
    assert "made by another model (model)" in said.err


def test_a_series_becomes_a_dicom_segmentation(untrained_model, scan, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    ct = sitk.Cast(sitk.RescaleIntensity(sitk.ReadImage(str(scan)), 0, 900), sitk.sitkInt16)
    for number in (2, 3):
        write_series(tmp_path / "tree" / "study", ct, number=number)
    out = tmp_path / "out"
    images = [tmp_path / "tree", scan]
    assert segment(model=untrained_model, images=images, out=out, device="cpu", file_format="dcm") == [NAME]
    assert sorted(path.name for path in out.glob("*.dcm")) == ["study series 2.dcm", "study series 3.dcm"]
    found = highdicom.seg.segread(out / "study series 2.dcm")
    assert found.number_of_segments == 2
    # What belongs to the patient stays in that file.
    text = (out / "report" / "report.json").read_text(encoding="utf-8")
    text += (out / "report" / "report.csv").read_text(encoding="utf-8-sig")
    assert "Muster" not in text
    assert "4711" not in text
    assert "1125" not in text


def test_dicom_segmentations_need_a_package(untrained_model, scan, tmp_path, monkeypatch, capsys):
    """Without it the request is refused before anything is done, and the message says what to install."""
    monkeypatch.setitem(sys.modules, "highdicom", None)
    words = ["--model", str(untrained_model), "--images", str(scan), "--out", str(tmp_path / "out"), "--format", "dcm"]
    assert main(["segment", *words]) == 2
    assert "pip install highdicom" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_format(untrained_model, scan, tmp_path):
    with pytest.raises(RequestError, match=r"seg\.nrrd, nii\.gz, dcm"):
        segment(model=untrained_model, images=[scan], out=tmp_path / "out", file_format="stl", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_model_of_an_earlier_version(untrained_model, scan, tmp_path):
    """It does not tell what its training cases were like; its results come without the comparison."""
    model = tmp_path / "model"
    shutil.copytree(untrained_model, model)
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    del card["fingerprint"]
    (model / "model.json").write_text(json.dumps(card), encoding="utf-8")
    assert segment(model=model, images=[scan], out=tmp_path / "out", device="cpu") == []
    (row,) = report_of(tmp_path / "out")["cases"]
    assert not {"volume", "position", "spacing"} & {flag["kind"] for flag in row["flags"]}
    assert np.isfinite(list(row["volumes_ml"].values())).all()


def test_results_beside_the_scans_are_no_scans(untrained_model, scan, tmp_path):
    shutil.copy(scan, tmp_path)
    for _ in range(2):
        out = tmp_path / "out"
        assert segment(model=untrained_model, images=[tmp_path], out=out, device="cpu", file_format="nii.gz") == []
    assert [row["case"] for row in report_of(out)["cases"]] == [NAME]
