"""Training in bfloat16 on the CPU where maps are thin."""

import numpy as np
import pytest
import torch
from torch import nn

from glmae.backbone.presets import preset
from glmae.backend_cpu import Convolution, guard_thin_maps, train_channels_last
from glmae.pretraining.configuration import pretrain_config
from glmae.pretraining.run import Run
from glmae.schedule import Schedule
from glmae.segmentation.crops import LabeledScan
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.network import Head, SegmentationNetwork
from glmae.segmentation.training import Training
from research.dense_consistency import dense_consistency

CPU = torch.device("cpu")


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_gradients_do_not_depend_on_what_memory_held(last):
    """On some CPUs they do in bfloat16, where a map is two voxels long."""
    torch.manual_seed(0)
    head = Head(1, 2, preset("tiny")).train()
    guard_thin_maps(head)
    x = torch.randn(2, 1, 16, 24, 32)
    if last:
        train_channels_last(head)
        x = x.contiguous(memory_format=torch.channels_last_3d)
    maps = [torch.randn(2, preset("tiny").width, 2, 3, 4) for _ in head.after]
    found = []
    for value in (float("nan"), 1e30, 1.0):
        for parameter in head.parameters():
            parameter.grad = None
        waste = [torch.full((10**size,), value) for size in (3, 4, 5, 6) for _ in range(6)]
        del waste
        with torch.autocast("cpu", torch.bfloat16):
            logits = head.logits(head.maps(x, maps))[0]
        logits.float().square().mean().backward()
        found.append([parameter.grad for parameter in head.parameters() if parameter.grad is not None])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.isfinite(two).all()
            assert torch.equal(one, two)


def test_parameters_names_and_results_stay():
    torch.manual_seed(0)
    head = Head(1, 2, preset("tiny")).eval()
    parameters, state = list(head.parameters()), list(head.state_dict())
    x, maps = torch.randn(1, 1, 16, 16, 24), [torch.randn(1, preset("tiny").width, 2, 2, 3) for _ in head.after]
    before = head.logits(head.maps(x, maps))[0]
    guard_thin_maps(head)
    assert all(one is two for one, two in zip(parameters, head.parameters(), strict=True))
    assert list(head.state_dict()) == state
    assert torch.equal(head.logits(head.maps(x, maps))[0], before)


def unguarded(network):
    return [part for part in network.modules() if type(part) is nn.Conv3d and part.kernel_size != (1, 1, 1)]


def test_whatever_is_trained_on_a_cpu_is_guarded():
    """Where bfloat16 is slow, too: with little memory it is used all the same."""
    network = SegmentationNetwork(preset("tiny"), 1)
    assert unguarded(network)
    scan = LabeledScan(np.zeros((1, 20, 18, 16), np.float16), np.ones((20, 18, 16), np.uint8), (True,), (1.0, 1.0, 1.0))
    Training(network, FinetuneConfig(crop=(16, 16, 16)), [scan], Schedule(1), CPU)
    assert not unguarded(network)

    further = dense_consistency(1.0)
    run = Run(pretrain_config("tiny"), CPU, Schedule(1, None), checkpoint=None, further=further)
    assert any(isinstance(part, Convolution) for part in run.model.further.modules())
    assert not unguarded(run.model)
