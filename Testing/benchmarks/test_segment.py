"""The benchmark of one volume on bundled scans: phantom, floor, rows, and going on after an interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from coarse_scans import write_coarse_scans
from torch import nn

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
SCANS = REPOSITORY / "GLMAESegmentation" / "Resources" / "SampleScans"
Script = Callable[..., subprocess.CompletedProcess[str]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "GLMAESegmentation")}
NAMES = ("hippocampus_039", "hippocampus_207", "hippocampus_003", "hippocampus_057")


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_phantom_has_the_body_it_should(tmp_path: Path) -> None:
    from phantom import AIR, write_phantom

    pairs = []
    for name in NAMES[:2]:
        scan = sitk.ReadImage(str(SCANS / "images" / f"{name}.nii.gz"))
        sitk.WriteImage(
            sitk.Cast(sitk.RescaleIntensity(scan, -100, 900), sitk.sitkInt16), str(tmp_path / f"{name}.mha")
        )
        pairs.append((tmp_path / f"{name}.mha", SCANS / "labels" / f"{name}.nii.gz"))
    write_phantom(tmp_path / "phantom.nrrd", pairs, (90, 80, 70), (1.0, 2.0, 3.0), body=0.4)
    image = sitk.ReadImage(str(tmp_path / "phantom.nrrd"))
    voxels = sitk.GetArrayFromImage(image)
    assert (image.GetSize(), image.GetSpacing()) == ((90, 80, 70), (1.0, 2.0, 3.0))
    body = (voxels != AIR).any(axis=0)
    assert body.mean() == pytest.approx(0.4, abs=0.001)
    assert np.mean(voxels != AIR) == pytest.approx(0.4, abs=0.01), "one body from end to end"
    edges = body.copy()
    edges[1:-1, 1:-1] = False
    assert not edges.any(), "air on every side"


def test_parts_are_tiled_side_by_side() -> None:
    from phantom import tiled

    parts = [np.full((2, 3, 4), number, dtype=np.int16) for number in (1, 2)]
    voxels = tiled(parts, (9, 6, 2))
    assert voxels.shape == (2, 6, 9)
    assert voxels[0, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 1]
    assert voxels[0, 5].tolist() == [2, 2, 2, 2, 1, 1, 1, 1, 2]


def test_the_floor_is_the_larger_of_operations_and_bytes() -> None:
    from floor import Layer, Peaks, floor_seconds, layers

    found = layers(nn.Sequential(nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.LeakyReLU()), torch.zeros(1, 2, 8, 8, 8))
    convolution, activation = found
    assert convolution.operations == 2 * 27 * 2 * 4 * 512
    assert convolution.numbers == 2 * 512 + 4 * 512 + 27 * 8
    assert (activation.operations, activation.numbers) == (0, 2 * 4 * 512)
    peaks = Peaks(operations=1e6, bytes=1e3)
    both = [Layer("a", 5e6, 10), Layer("b", 1, 1000)]
    assert floor_seconds(both, peaks, torch.float32) == pytest.approx(5 + 4)
    assert floor_seconds(both, peaks, torch.bfloat16) == pytest.approx(5 + 2)


def test_the_floor_counts_attention_and_all_convolutions() -> None:
    from floor import layers

    from glmae.backbone.presets import preset
    from glmae.segmentation.network import SegmentationNetwork

    network = SegmentationNetwork(preset("tiny"), 2).eval()
    found = layers(network, torch.zeros(1, 1, 16, 16, 16))
    tokens, heads, width = 9, 3, 64
    attention = [layer for layer in found if "attention" in layer.name]
    assert [layer.operations for layer in attention] == [4 * heads * tokens**2 * width] * 6
    convolutions = [layer for layer in found if "convolution" in layer.name]
    # All but the patch embedding, which is a matrix product.
    assert len(convolutions) == sum(isinstance(part, nn.Conv3d) for part in network.modules()) - 1
    x = torch.zeros(1, 1, 16, 16, 16)
    with torch.no_grad():
        maps = network.maps(x)
    parts = layers(network.maps, x) + layers(network.logits, maps)
    assert convolutions == [layer for layer in parts if "convolution" in layer.name]


def test_variants_of_classes_divide_their_voxels(tmp_path: Path) -> None:
    from many_classes import write_model_with_classes

    from glmae.backbone.presets import preset
    from glmae.scans.classes import ClassTable, SegmentClass
    from glmae.scans.normalization import Normalization
    from glmae.scans.preparation import Preparation
    from glmae.segmentation.finetune_config import FinetuneConfig
    from glmae.segmentation.model import Model, load_model, save_model
    from glmae.segmentation.network import SegmentationNetwork

    table = ClassTable((SegmentClass(1, "a"), SegmentClass(2, "b")))
    preparation = Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),))
    torch.manual_seed(0)
    network = SegmentationNetwork(preset("tiny"), 2).eval()
    with torch.no_grad():
        network.head.output.weight.mul_(10)  # sure of itself, as a trained one is
    save_model(tmp_path / "two", Model(network, FinetuneConfig(crop=(16, 16, 16)), preparation, table), {})
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        two = network(x)[0]
        for classes in (1, 9):
            write_model_with_classes(tmp_path / "two", classes, tmp_path / str(classes))
            other = load_model(tmp_path / str(classes), torch.device("cpu"))
            logits = other.network(x)[0]
            assert logits.shape[1] == classes + 1
            torch.testing.assert_close(logits[:, : min(3, classes + 1)], two[:, : min(3, classes + 1)])
        assert len(logits.argmax(dim=1).unique()) > 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_the_memory_of_a_row_is_not_that_of_the_program_that_started_it() -> None:
    child = [sys.executable, "-c", "from machine import peak_rss_mb; print(peak_rss_mb())"]
    parent = f"import subprocess; held = b'1' * 1_500_000_000; subprocess.run({child!r}, check=True)"
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join((ENVIRONMENT["PYTHONPATH"], str(BENCHMARKS)))}
    told = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, encoding="utf-8", env=environment, check=True
    )
    assert 50 < float(told.stdout) < 1400


def run(script: Script, data: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    common = ("--data", data, "--device", "cpu", "--steps", "2", "--work", folder / "work")
    return script("segment", *common, "--out", folder / "segment.json", *words)


def test_rows_are_complete_and_made_once(
    script: Script,
    tmp_path: Path,
    rows_here: Callable[[str], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import segment

    brief = {"start_steps": 100, "start_crops": 2, "batch": 1}
    monkeypatch.setattr(segment, "finetune", partial(segment.finetune, settings=brief))
    data = tmp_path / "my sets" / "headneck_ct"
    write_coarse_scans(data, NAMES, step=2)
    files = [f"{scan}.nii.gz" for scan in NAMES]
    split = {"few_label": {"2": files[:2], "4": files[:3]}, "pool": files[:3], "test": files[3:]}
    (data / "split.json").write_text(json.dumps({"seeds": {"seed0": split}}), encoding="utf-8")

    words = ("--cases", "headneck", "--methods", "monai_same_network")
    with rows_here("segment"):
        first = run(script, data.parent, tmp_path, *words)
    assert first.returncode == 0, first.stdout + first.stderr
    kept = json.loads((tmp_path / "segment.json").read_text(encoding="utf-8"))["rows"]
    # Only what is missing is measured.
    again = run(script, data.parent, tmp_path, *words, "glmae")
    assert (again.returncode, again.stdout.count("\n")) == (0, 1), again.stderr
    content = json.loads((tmp_path / "segment.json").read_text(encoding="utf-8"))
    rows = content["rows"]
    assert [row["method"] for row in rows][-1] == "glmae"
    assert {row["precision"] for row in rows} >= {"float32"}
    assert [machine["torch"] for machine in content["machine"].values()] == [torch.__version__]
    for row in rows:
        assert (row["case"], row["device"], row["voxels"]) == ("headneck", "cpu", rows[0]["voxels"])
        assert row["floor_seconds"] > 0
        assert 0 < row["computed_windows"] <= row["windows"]
        assert row["seconds"] > 0
        assert row["peak_rss_mb"] is None or 100 < row["peak_rss_mb"] < 8000
    # Ours averages the maps of windows, MONAI their probabilities; test_scan_maps.py holds the maps to MONAI's.
    assert rows[-1]["dice_to_reference"] > 0.75
    assert rows[-1]["dice_to_float32"] > 0.9
    assert rows[0]["dice_to_float32"] is None, "it is what is compared with"

    assert rows[:-1] == kept


def test_a_wrong_request_is_one_line_and_runs_nothing(script: Script, tmp_path: Path) -> None:
    result = run(script, tmp_path, tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert not (tmp_path / "work").exists()
