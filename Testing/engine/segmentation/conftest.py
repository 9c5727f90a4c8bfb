"""A model that nobody trained, for what does not depend on its weights."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def untrained_model(sample_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder with two classes, made without a training step."""
    import torch

    from glmae.backbone.presets import preset
    from glmae.scans.cases import find_cases
    from glmae.scans.measurement import measure
    from glmae.scans.preparation import plan_preparation
    from glmae.segmentation.finetune_config import FinetuneConfig
    from glmae.segmentation.model import Model, save_model
    from glmae.segmentation.network import SegmentationNetwork

    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", ["hippocampus_039"])
    fingerprint = measure(cases, table)
    config = FinetuneConfig(crop=(24, 32, 24))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = SegmentationNetwork(preset("tiny", channels=1), len(table))
    folder = tmp_path_factory.mktemp("untrained") / "model"
    model = Model(network, config, plan_preparation(fingerprint, 64**3), table)
    save_model(folder, model, {"scores": None, "fingerprint": fingerprint.to_json()})
    return folder
