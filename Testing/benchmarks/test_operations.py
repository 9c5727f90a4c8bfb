"""The counted operations: against a published table of ViT-B's, and against torch's own counter."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import operations

from glmae.backbone.presets import preset
from glmae.pretraining.configuration import LossWeights, pretrain_config
from glmae.pretraining.gl_mae import GLMAE

GIGA = 1e9


@pytest.mark.parametrize(
    ("patches", "forward", "training"), [(216, 40.0, 118.5), (86, 15.6, 46.3), (1000, 213.3, 633.5), (400, 76.6, 227.2)]
)
def test_the_encoder_of_the_paper(patches, forward, training):
    base = preset("base")
    assert operations.encoder(base, patches) / GIGA == pytest.approx(forward, abs=0.06)
    assert operations.encoder_training(base, patches) / GIGA == pytest.approx(training, abs=0.06)


@pytest.mark.parametrize(("visible", "patches", "forward"), [(86, 216, 12.7), (400, 1000, 71.3)])
def test_the_decoder_of_the_paper(visible, patches, forward):
    assert operations.decoder(preset("base"), visible, patches, patches) / GIGA == pytest.approx(forward, abs=0.06)


def test_a_volume_of_the_paper():
    """1.98 TFLOP if all patches are predicted and the teacher's last block is computed for all, projectors apart."""
    config = pretrain_config("base")
    backbone = config.backbone
    unmasked = 2 * backbone.decoder_width * backbone.patch_voxels * 3 * (2 * 400 + 8 * 86)
    projectors = (2 + 3 * 10) * operations.projector(config)
    rest = 2 * (operations.encoder(backbone, 1000) - operations.encoder_cls(backbone, 1000))
    assert (operations.volume(config) + unmasked + rest - projectors) / 1e12 == pytest.approx(1.98, abs=0.005)


@pytest.mark.parametrize(
    "weights", [LossWeights(), LossWeights(global_global=0, global_local=0), LossWeights(global_reconstruction=0)]
)
def test_torchs_counter_agrees(weights, monkeypatch):
    # The counter sees the products of an attention only if they are written out.
    def attention(query, key, value):
        return (query @ key.transpose(2, 3)).softmax(dim=3) @ value

    monkeypatch.setattr("glmae.backbone.vision_transformer.attend", attention)
    config = pretrain_config("tiny", weights=weights, local_views=3, hidden=32, bottleneck=16, prototypes=64)
    config = replace(config, backbone=replace(config.backbone, width=48, depth=2, global_view=32, local_view=16))
    model = GLMAE(config)
    views = torch.randn(1, 2, 1, 32, 32, 32), torch.randn(1, 3, 1, 16, 16, 16)
    with FlopCounterMode(display=False) as counter:
        model(*views, [torch.Generator()]).total.backward()
    assert operations.volume(config) == counter.get_total_flops()
