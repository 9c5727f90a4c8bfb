"""`segment` on many scans with a real network: what only shows when all parts work together."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from dicom_series import write_series

from glmae.cli import main
from glmae.errors import RequestError
from glmae.events import recorded
from glmae.scans.geometry import Geometry
from glmae.segmentation import inference
from glmae.segmentation.inference import segment, segment_case
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
    # A network that has learnt nothing is unsure, and what it finds looks like no training case.
    assert {"uncertain", "volume"} <= {flag["kind"] for flag in row["flags"]}
    (done,) = [event for event in events if event.get("state") == "done"]
    assert done["flags"] == row["flags"]


def test_uncertainty_on_request(untrained_model, scan, tmp_path):
    words = ["--model", str(untrained_model), "--images", str(scan), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["segment", *words, "--uncertainty"]) == 0
    image = sitk.ReadImage(str(tmp_path / "uncertainty" / f"{NAME}.nii.gz"))
    assert Geometry.of(image).same_grid(Geometry.of(sitk.ReadImage(str(scan))))
    label = sitk.ReadImage(str(tmp_path / f"{NAME}.seg.nrrd"))
    values, numbers = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(label)
    assert 0 < values.max() <= 67, "three classes: the largest probability is a third at least"
    (row,) = report_of(tmp_path)["cases"]
    for value, name in ((1, "hippocampus anterior"), (2, "hippocampus posterior")):
        if name in row["uncertainty"]:
            assert values[numbers == value].mean() / 100 == pytest.approx(row["uncertainty"][name], abs=0.02)


def test_a_gpu_without_enough_memory_gives_way_to_the_cpu(untrained_model, scan, sample_scans, tmp_path, monkeypatch):
    """In place of a GPU stands a refusal, as torch words it: each case is done on the CPU, and the GPU asked again."""
    moved: list[str] = []
    opened = load_model(untrained_model, torch.device("cpu"))

    def move(network, device):
        moved.append(str(device))
        return network

    def case_on(model, case, device, *rest, **more):
        if device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        assert moved[-1:] == ["cpu"], "the network is where the work is"
        return segment_case(model, case, device, *rest, **more)

    monkeypatch.setattr(inference, "segment_case", case_on)
    monkeypatch.setattr(inference, "choose_device", lambda request: (torch.device("cuda"), "Computing on the GPU."))
    monkeypatch.setattr(inference, "load_model", lambda folder, device: opened)
    monkeypatch.setattr(SegmentationNetwork, "to", move)
    other = sample_scans / "images" / "hippocampus_003.nii.gz"
    events: list[dict] = []
    assert segment(model=untrained_model, images=[scan, other], out=tmp_path, events=recorded(events)) == []
    warned = [event["case"] for event in events if event["event"] == "warning" and "GPU" in event["message"]]
    assert warned == [NAME, "hippocampus_003"]
    assert moved == ["cpu", "cuda", "cpu", "cuda"]
    assert len(list(tmp_path.glob("*.seg.nrrd"))) == 2


def test_a_cpu_without_enough_memory_is_a_state(untrained_model, scan, tmp_path, monkeypatch):
    def forward(self, x):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to")

    monkeypatch.setattr(SegmentationNetwork, "forward", forward)
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
    monkeypatch.setattr("glmae.scans.memory.free_memory", lambda: 8_000_000_000)
    events: list[dict] = []
    scans = [tmp_path / "bone.mhd", scan]
    out = tmp_path / "out"
    assert segment(model=untrained_model, images=scans, out=out, device="cpu", events=recorded(events)) == ["bone"]
    (failed,) = [event for event in events if event.get("state") == "failed"]
    assert "about 25 GB of memory" in failed["message"]
    assert (out / f"{NAME}.seg.nrrd").exists()


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
