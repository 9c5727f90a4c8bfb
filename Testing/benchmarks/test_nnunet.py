"""nnU-Net as a peer: its raw format, and, where its environment is installed, a few steps of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SAMPLES = BENCHMARKS.parent / "GLMAESegmentation" / "Resources" / "SampleScans"
NAMES = ("hippocampus_039", "hippocampus_207")


@pytest.fixture
def nnunet(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers import nnunet

    return nnunet


def test_the_raw_format(nnunet, tmp_path):
    from glmae.scans.cases import find_cases

    # Values of the labels need not be consecutive, nnU-Net's must be; half of one scan is not labeled.
    (tmp_path / "labels").mkdir()
    for name in NAMES:
        label = sitk.ReadImage(str(SAMPLES / "labels" / f"{name}.nii.gz"), sitk.sitkUInt16)
        sitk.WriteImage(sitk.ChangeLabel(label, {1: 7, 2: 300}), str(tmp_path / "labels" / f"{name}.nii.gz"))
    content = {
        "classes": [{"value": 7, "name": "left one"}, {"value": 300, "name": "two"}],
        "region": {NAMES[0]: {"box": [[0, 14], [0, 52], [0, 33]]}},
    }
    (tmp_path / "labels" / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    cases, table = find_cases(SAMPLES / "images", tmp_path / "labels", NAMES)
    nnunet.write_raw(tmp_path / "raw", cases, table)

    written = json.loads((tmp_path / "raw" / "dataset.json").read_text(encoding="utf-8"))
    assert written["labels"] == {"background": 0, "class 1": 1, "class 2": 2, "ignore": 3}
    assert written["channel_names"] == {"0": "MR 0"}
    assert (written["numTraining"], written["file_ending"]) == (2, ".nii.gz")
    assert sorted(path.name for path in (tmp_path / "raw" / "imagesTr").iterdir()) == [
        "case_000_0000.nii.gz",
        "case_001_0000.nii.gz",
    ]
    labels = [sitk.ReadImage(str(tmp_path / "raw" / "labelsTr" / f"case_00{n}.nii.gz")) for n in (0, 1)]
    arrays = [sitk.GetArrayFromImage(label) for label in labels]
    assert [set(np.unique(array)) for array in arrays] == [{0, 1, 2, 3}, {0, 1, 2}]
    assert (arrays[0][:, :, 15:] == 3).all()
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(SAMPLES / "labels" / f"{NAMES[1]}.nii.gz")))
    np.testing.assert_array_equal(arrays[1], original)
    image = sitk.ReadImage(str(SAMPLES / "images" / f"{NAMES[0]}.nii.gz"))
    assert labels[0].GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-4)

    assert nnunet._has_sides(table), "so it does not mirror"
    nnunet._bring_back(tmp_path / "raw" / "labelsTr" / "case_001.nii.gz", tmp_path / "back.nii.gz", table)
    back = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "back.nii.gz")))
    np.testing.assert_array_equal(back, np.array([0, 7, 300])[original])


def test_without_its_environment_it_says_how_to_make_it(nnunet, monkeypatch, tmp_path):
    from glmae.errors import RequestError

    monkeypatch.setattr(nnunet, "interpreter", lambda: tmp_path / "python")
    with pytest.raises(RequestError, match=r"nnunet_environment\.py"):
        nnunet.run(None)


def test_its_environment_computes_with_the_same_packages(nnunet):
    from nnunet_environment import SHARED, shared_versions

    pinned = shared_versions()
    assert {line.split("==")[0] for line in pinned} == set(SHARED)
    text = (BENCHMARKS.parent / "constraints.txt").read_text(encoding="utf-8")
    assert all(line in text for line in pinned)


@pytest.mark.skipif(
    not any((BENCHMARKS.parent / ".venv-nnunet").glob("*/python*")), reason="nnU-Net's environment is not installed"
)
def test_a_step_of_it(nnunet, monkeypatch, tmp_path):
    """The whole chain with nnU-Net itself; one step teaches nothing, so only files and grids are looked at."""
    from data_set import DataSet
    from task import Task

    monkeypatch.setattr(Task, "data", DataSet("bundled", SAMPLES, {}))
    task = Task(
        set_folder="",
        labels=1,
        seed=0,
        method="nnunet",
        minutes=0.02,
        device="cpu",
        threads=1,
        labeled=NAMES[:1],
        pool=NAMES[:1],
        test=NAMES[1:],
        work=str(tmp_path),
    )
    outcome = nnunet.run(task)
    assert outcome.steps is not None
    assert outcome.steps >= 1
    assert outcome.seconds > 0
    result = sitk.ReadImage(str(task.predictions / f"{NAMES[1]}.nii.gz"))
    scan = sitk.ReadImage(str(SAMPLES / "images" / f"{NAMES[1]}.nii.gz"))
    assert result.GetSize() == scan.GetSize()
    assert result.GetOrigin() == pytest.approx(scan.GetOrigin(), abs=1e-4)
    assert set(np.unique(sitk.GetArrayFromImage(result))) <= {0, 1, 2}
