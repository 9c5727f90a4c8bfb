"""The faster order of memory: the same parameters, the same output."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from glmae.backbone.presets import preset
from glmae.backend_cpu import ChannelsLast, InstanceNorm, channels_last, pays, train_channels_last
from glmae.errors import Stopped
from glmae.events import silent
from glmae.job import Job
from glmae.schedule import Schedule
from glmae.segmentation.crops import LabeledScan
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.network import Head, SegmentationNetwork
from glmae.segmentation.training import Training

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(not pays(CPU), reason="this CPU does not multiply bfloat16")


def logits(network: SegmentationNetwork | ChannelsLast, x: torch.Tensor) -> torch.Tensor:
    """The logits of a window."""
    return network.logits(network.maps(x))[0]


@needs_bfloat16
@pytest.mark.parametrize("batch", [1, 2])
def test_it_computes_the_same_with_the_same_parameters(batch):
    torch.manual_seed(0)
    network = SegmentationNetwork(preset("tiny"), 3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # the affine parts of norms, too
    faster = channels_last(network, CPU)
    assert isinstance(faster, ChannelsLast)
    x = torch.randn(batch, 1, 16, 24, 32)
    with torch.inference_mode():
        exact = network(x)[0]
        with torch.autocast("cpu", torch.bfloat16):
            usual, found = network(x)[0], logits(faster, x)
    assert found.shape == exact.shape
    assert found.is_contiguous(), "the classes come first, as what goes from class to class wants them"
    error = (found - exact).abs().mean()
    assert 0 < error < 1.2 * (usual - exact).abs().mean() < 0.05 * exact.std()
    for (name, own), other in zip(network.named_parameters(), faster.parameters(), strict=True):
        assert own.dtype == torch.float32
        assert own.is_contiguous(), "the network itself stays as it is"
        torch.testing.assert_close(other.float(), own, atol=0, rtol=2**-8)
        assert other.dtype == torch.bfloat16 or other.data_ptr() == own.data_ptr(), f"a second copy of {name}"


@needs_bfloat16
def test_the_channels_are_last_even_of_scans_with_one():
    network = SegmentationNetwork(preset("tiny"), 3).eval()
    seen = []
    faster = channels_last(network, CPU)
    for part in faster.modules():
        if isinstance(part, InstanceNorm):
            part.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits(faster, torch.randn(1, 1, 32, 32, 32))
    last = [x.is_contiguous(memory_format=torch.channels_last_3d) for x in seen]
    # Not those of the token map.
    assert last.count(False) <= 1 < last.count(True)


def test_where_it_does_not_pay_the_network_stays_as_it_is(monkeypatch):
    network = SegmentationNetwork(preset("tiny"), 1)
    assert channels_last(network, torch.device("cuda")) is network
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)
    assert channels_last(network, CPU) is network
    assert not pays(CPU), "nor is it changed for training"


def test_training_gives_the_same_gradients_with_the_same_parameters():
    torch.manual_seed(0)
    # In double precision, because rounding decides on which side of a kink some activations are.
    backbone = preset("tiny", channels=2)
    plain = Head(2, 3, backbone).double().train()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    other = copy.deepcopy(plain)
    own = list(other.parameters())
    train_channels_last(other)
    assert all(one is two for one, two in zip(own, other.parameters(), strict=True)), "those that an optimizer may hold"
    assert list(plain.state_dict()) == list(other.state_dict())
    x = torch.randn(2, 2, 16, 24, 32, dtype=torch.float64)
    maps = [torch.randn(2, backbone.width, 2, 3, 4, dtype=torch.float64) for _ in plain.after]
    last = x.contiguous(memory_format=torch.channels_last_3d)
    found = [net.logits(net.maps(y, maps)) for net, y in ((plain, x), (other, last))]
    for usual, level in zip(*found, strict=True):
        torch.testing.assert_close(level, usual, atol=1e-9, rtol=1e-9)
        weights = torch.randn_like(usual)
        for logits in (usual, level):
            (logits * weights).sum().backward(retain_graph=True)
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        if one.grad is not None:
            assert two.grad is not None, name
            assert two.grad.stride() == two.stride(), "optimizers want them alike"
            assert (two.grad - one.grad).norm() < 1e-6 * one.grad.norm() + 1e-6, name


@needs_bfloat16
def test_a_training_with_the_channels_last_goes_on_as_if_not_interrupted(tmp_path):
    """Checkpoint, averaged weights and moments; the network that was trained runs at inference as any other."""

    def training() -> Training:
        torch.manual_seed(0)
        network = SegmentationNetwork(dataclasses.replace(preset("tiny"), depth=2), 1)
        label = np.zeros((20, 18, 16), np.uint8)
        label[5:12, 5:12, 5:12] = 1
        image = label[None] + np.random.default_rng(0).normal(0, 0.3, (1, *label.shape))
        scan = LabeledScan(image.astype(np.float16), label, (True,), (1.0, 1.0, 1.0))
        config = FinetuneConfig(crop=(16, 16, 16), batch=2, average=0.2)
        return Training(network, config, [scan], Schedule(5), CPU)

    whole, stopped, resumed = training(), training(), training()
    norms = [part for part in whole.network.modules() if isinstance(part, InstanceNorm)]
    seen = []
    norms[0].register_forward_hook(lambda _, inputs, x: seen.extend([inputs[0], x]))
    whole.run(tmp_path / "whole", Job(silent(), CPU))
    assert all(x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous() for x in seen)
    assert len(seen[0]) == 2
    with pytest.raises(Stopped):
        stopped.run(tmp_path / "checkpoint", Job(silent(), CPU, lambda: stopped.schedule.done == 3))
    resumed.restore(tmp_path / "checkpoint")
    for parameter, moments in resumed.optimizer.state.items():
        assert moments["exp_avg"].stride() == parameter.stride()
    resumed.run(tmp_path / "checkpoint", Job(silent(), CPU))
    assert whole.averaged is not None
    one, two = whole.averaged_network(), resumed.averaged_network()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name

    usual = SegmentationNetwork(one.backbone.config, 1).eval()
    usual.load_state_dict(one.state_dict())
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits(channels_last(one, CPU), x), logits(channels_last(usual, CPU), x))
