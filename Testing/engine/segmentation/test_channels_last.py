"""The faster order of memory: the same parameters, the same output."""

import pytest
import torch

from glmae.backbone.presets import preset
from glmae.segmentation.channels_last import ChannelsLast, InstanceNorm, channels_last
from glmae.segmentation.heads import HEADS
from glmae.segmentation.network import SegmentationNetwork

CPU = torch.device("cpu")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("batch", [1, 2])
def test_it_computes_the_same_with_the_same_parameters(head, batch, monkeypatch):
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: True)
    torch.manual_seed(0)
    network = SegmentationNetwork(preset("tiny"), 3, head).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # the affine parts of norms, too
    faster = channels_last(network, CPU)
    assert isinstance(faster, ChannelsLast)
    x = torch.randn(batch, 1, 16, 24, 32)
    with torch.inference_mode():
        exact = network(x)[0]
        with torch.autocast("cpu", torch.bfloat16):
            usual, found = network(x)[0], faster(x)[0]
    assert found.shape == exact.shape
    assert found.is_contiguous(), "the classes come first, as the sliding window wants them"
    error = (found - exact).abs().mean()
    assert 0 < error < 1.2 * (usual - exact).abs().mean() < 0.05 * exact.std()
    for (name, own), other in zip(network.named_parameters(), faster.parameters(), strict=True):
        assert own.dtype == torch.float32
        assert own.is_contiguous(), "the network itself stays as it is"
        torch.testing.assert_close(other.float(), own, atol=0, rtol=2**-8)
        assert other.dtype == torch.bfloat16 or other.data_ptr() == own.data_ptr(), f"a second copy of {name}"


def test_the_channels_are_last_even_of_scans_with_one(monkeypatch):
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: True)
    network = SegmentationNetwork(preset("tiny"), 3).eval()
    seen = []
    faster = channels_last(network, CPU)
    for part in faster.modules():
        if isinstance(part, InstanceNorm):
            part.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        faster(torch.randn(1, 1, 32, 32, 32))
    last = [x.is_contiguous(memory_format=torch.channels_last_3d) for x in seen]
    # Not those of the token map.
    assert last.count(False) <= 1 < last.count(True)


def test_where_it_does_not_pay_the_network_stays_as_it_is(monkeypatch):
    network = SegmentationNetwork(preset("tiny"), 1)
    assert channels_last(network, torch.device("cuda")) is network
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)
    assert channels_last(network, CPU) is network
