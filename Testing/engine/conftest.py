"""Real scans and one small trained model for the tests of the engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SAMPLE_SCANS = Path(__file__).resolve().parents[2] / "GLMAESegmentation" / "Resources" / "SampleScans"
TRAINED_ON = ("hippocampus_039", "hippocampus_207")


@pytest.fixture(scope="session")
def sample_scans() -> Path:
    """Folder with `images/` and `labels/` of six real scans; not to be written to."""
    return SAMPLE_SCANS


@pytest.fixture
def few_scans(tmp_path: Path) -> Path:
    """A copy of three labelled scans, in a folder whose name has a space and other alphabets."""
    folder = tmp_path / "Gehirn-Aufnahmen 海馬 №1"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
        for name in (*TRAINED_ON, "hippocampus_003"):
            shutil.copy(SAMPLE_SCANS / kind / f"{name}.nii.gz", folder / kind)
    shutil.copy(SAMPLE_SCANS / "labels" / "classes.json", folder / "labels")
    return folder


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on two real scans for a few seconds."""
    from glmae.segmentation.finetuning import finetune  # here, so that tests without torch start fast

    out = tmp_path_factory.mktemp("trained") / "model"
    return finetune(
        images=SAMPLE_SCANS / "images",
        labels=SAMPLE_SCANS / "labels",
        cases=TRAINED_ON,
        backbone="none",
        steps=10,
        device="cpu",
        settings={"batch": 1},
        out=out,
    ).folder
