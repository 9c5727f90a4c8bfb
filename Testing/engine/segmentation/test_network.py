"""The segmentation network: shapes, and that the tokens carry part of the result."""

from dataclasses import replace

import pytest
import torch

from glmae.backbone.presets import preset
from glmae.backbone.trunk import level_strides
from glmae.segmentation.network import SegmentationNetwork


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_the_size_of_the_scan(channels):
    network = SegmentationNetwork(preset("tiny", channels=channels), classes=4)
    x = torch.randn(1, channels, 16, 24, 32)
    network.eval()
    with torch.no_grad():
        assert [tuple(level.shape) for level in network(x)] == [(1, 5, 16, 24, 32)]
    network.train()
    assert network(x)[0].shape == (1, 5, 16, 24, 32)


def test_anisotropic_patches():
    network = SegmentationNetwork(replace(preset("tiny"), patch_size=(8, 8, 2)), classes=1)
    with torch.no_grad():
        assert network(torch.randn(1, 1, 32, 32, 8))[0].shape == (1, 2, 32, 32, 8)


def test_strides_multiply_to_the_patch():
    assert level_strides((8, 8, 2)) == [(2, 2, 1), (2, 2, 1), (2, 2, 2)]
    assert level_strides((16, 16, 16)) == [(2, 2, 2)] * 4
    with pytest.raises(ValueError, match="power of two"):
        level_strides((6, 8, 8))


def test_tokens_reach_the_logits():
    torch.manual_seed(0)
    network = SegmentationNetwork(preset("tiny"), classes=2).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        with_tokens = network(x)[0]
        maps = network.backbone.features(x, network.head.after)
        without = network.logits(network.head.maps(x, [torch.zeros_like(part) for part in maps]))[0]
    assert not torch.allclose(with_tokens, without, atol=1e-3)


def test_every_parameter_gets_a_gradient():
    network = SegmentationNetwork(preset("tiny"), classes=2).train()
    sum(level.square().mean() for level in network(torch.randn(1, 1, 16, 16, 16))).backward()
    # The CLS token and the last norm's CLS row act through attention only; nothing may be cut off entirely.
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
