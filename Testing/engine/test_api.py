"""`import glmae`: what docs/python.md shows runs, its results say what they hold, and torch waits for a call."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import glmae
from glmae.errors import GLMAEError, ModelError, RequestError, ScanError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
NAME = "hippocampus_057"


@pytest.fixture
def folders(tmp_path: Path, sample_scans: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SCANS and LABELS of two scans, OTHER_SCANS and OTHER_LABELS of one."""
    cases = {"": ("hippocampus_039", "hippocampus_207"), "OTHER_": ("hippocampus_003",)}
    for prefix, names in cases.items():
        for kind in ("images", "labels"):
            folder = tmp_path / (prefix + {"images": "SCANS", "labels": "LABELS"}[kind])
            folder.mkdir()
            for name in names:
                shutil.copy(sample_scans / kind / f"{name}.nii.gz", folder)
        shutil.copy(sample_scans / "labels" / "classes.json", tmp_path / f"{prefix}LABELS")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs(folders: Path) -> None:
    """All blocks, one after the other, as a reader would type them; minutes become a step."""
    code = "\n".join(re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8")))
    assert code.count("minutes=") == 3
    names: dict[str, object] = {}
    code = re.sub(r"(finetune\(.*?)minutes=\d+", r"\1settings={'start_steps': 1}, minutes=1", code)
    exec(re.sub(r"minutes=\d+", "steps=1, device='cpu'", code), names)
    model, result, batch, scores = (names[name] for name in ("model", "result", "batch", "scores"))
    assert model.classes == ("hippocampus anterior", "hippocampus posterior")
    assert model.failed == model.scores["failure"]
    assert sitk.ReadImage("result.seg.nrrd").GetSize() == result.labels.GetSize()
    assert batch.failed == ()
    assert Path("RESULTS/hippocampus_003.seg.nrrd").is_file()
    assert {(score.case, score.name) for score in scores} == {("hippocampus_003", name) for name in model.classes}
    assert names["losses"].total.requires_grad
    assert names["encoder"](names["views"][1][0, :1]).shape == (1, 65, 192)


def test_probabilities_lie_on_the_scan_and_say_what_the_labels_say(trained_model: Path, sample_scans: Path) -> None:
    model = glmae.load_model(trained_model)
    path = sample_scans / "images" / f"{NAME}.nii.gz"
    scan = sitk.DICOMOrient(sitk.ReadImage(str(path)), "PIR")
    result = model.segment(scan, probabilities=True, device="cpu")
    for image in (result.labels, *result.probabilities.values()):
        assert image.GetSize() == scan.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), scan.GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(image.GetDirection(), scan.GetDirection(), atol=1e-6)
    shares = np.stack([sitk.GetArrayFromImage(result.probabilities[name]) for name in model.classes])
    labels = sitk.GetArrayFromImage(result.labels)
    winners = np.where(shares.max(axis=0) > 1 - shares.sum(axis=0), shares.argmax(axis=0) + 1, 0)
    assert set(np.unique(labels)) == {0, 1, 2}
    # Labels keep the largest part of each class only; the probabilities do not.
    assert np.mean(winners[labels > 0] == labels[labels > 0]) > 0.999
    # The same scan in another order of axes, read from its file.
    again = model.segment(str(path), device="cpu")
    assert again.probabilities is None
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(again.labels, "PIR")), labels)
    assert again.uncertainty == pytest.approx(result.uncertainty, abs=1e-3)


def test_mistakes_get_a_sentence(trained_model: Path, sample_scans: Path, tmp_path: Path) -> None:
    model = glmae.load_model(trained_model)
    path = sample_scans / "images" / f"{NAME}.nii.gz"
    with pytest.raises(ModelError, match="does not exist"):
        glmae.load_model(tmp_path / "none")
    with pytest.raises(ScanError, match="2 channels"):
        model.segment([path, path])
    with pytest.raises(RequestError, match="1 image"):
        model.segment(sitk.Image([8, 8], sitk.sitkFloat32))
    with pytest.raises(RequestError, match="such an ending"):
        model.segment(path, device="cpu").save(tmp_path / "result.stl")
    with pytest.raises(GLMAEError, match="there is no backbone"):
        glmae.finetune(sample_scans / "images", sample_scans / "labels", tmp_path / "model", backbone="nobody")
    assert not any(tmp_path.iterdir())


def test_torch_waits_for_a_call() -> None:
    code = "import sys, glmae; assert {'pretrain', 'GLMAE'} <= set(dir(glmae)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        glmae.train  # noqa: B018
