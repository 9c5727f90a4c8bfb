"""Real scans and one small trained model for the tests of the engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from coarse_scans import write_coarse_scans

SAMPLE_SCANS = Path(__file__).resolve().parents[2] / "GLMAESegmentation" / "Resources" / "SampleScans"
TRAINED_ON = ("hippocampus_039", "hippocampus_207")


@pytest.fixture(scope="session")
def sample_scans() -> Path:
    """Folder with `images/` and `labels/` of six real scans; not to be written to."""
    return SAMPLE_SCANS


@pytest.fixture
def few_scans(tmp_path: Path) -> Path:
    """Three labeled scans, coarser than they are, in a folder whose name has a space and other alphabets."""
    folder = tmp_path / "Gehirn-Aufnahmen 海馬 №1"
    write_coarse_scans(folder, (*TRAINED_ON, "hippocampus_003"))
    return folder


@pytest.fixture
def fine_scans(tmp_path: Path) -> Path:
    """The same three as they are."""
    folder = tmp_path / "Gehirn-Aufnahmen 海馬 №1"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for name in (*TRAINED_ON, "hippocampus_003"):
            shutil.copy(SAMPLE_SCANS / kind / f"{name}.nii.gz", folder / kind)
    shutil.copy(SAMPLE_SCANS / "labels" / "classes.json", folder / "labels")
    return folder


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on two real scans for a few seconds, on voxels of their own size."""
    from glmae.scans.normalization import Normalization
    from glmae.scans.preparation import Preparation
    from glmae.segmentation.finetuning import finetune  # here, so that tests without torch start fast

    out = tmp_path_factory.mktemp("trained") / "model"
    return finetune(
        images=SAMPLE_SCANS / "images",
        labels=SAMPLE_SCANS / "labels",
        cases=TRAINED_ON,
        backbone="none",
        steps=10,
        device="cpu",
        preparation=Preparation((1.0, 1.0, 1.0), (Normalization("zscore"),)),
        settings={"batch": 1, "start_steps": 100, "start_crops": 1, "settled": 10},
        out=out,
    ).folder
