"""The dense consistency: what it rewards, and what learns from it."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glmae.backbone.presets import preset
from glmae.backbone.trunk import Trunk
from glmae.backbone.vision_transformer import VisionTransformer
from research.dense_consistency import DenseConsistency, dense_pair, rescale_kernels
from research.synthetic_volumes import SyntheticScans

SIDE, PLACES = 32, 64


def parts():
    torch.manual_seed(0)
    return VisionTransformer(preset("tiny")), DenseConsistency(preset("tiny"))


def pairs(count=2):
    scans = SyntheticScans(count, side=48)
    made = [
        dense_pair(scans.appearances(number), scans.image(number), SIDE, PLACES, [number]) for number in range(count)
    ]
    return torch.stack([views for views, _ in made]), torch.stack([places for _, places in made])


@pytest.mark.parametrize("autocast", [False, True])
def test_it_is_the_cross_entropy_of_finding_each_place_among_the_others(autocast):
    _, dense = parts()

    def projector(vectors):
        with torch.autocast("cpu", enabled=False):  # the loss alone is looked at, which is float32 within autocast
            return dense.fine_projector(vectors)

    features, places = torch.randn(4, dense.trunk.fine_width, 16, 16, 16), torch.rand(2, 2, PLACES, 3) * 1.6 - 0.8
    expected = []
    for volume in range(2):
        vectors = []
        for view in range(2):
            at = F.grid_sample(
                features[2 * volume + view][None],
                places[volume, view][None, :, None, None],
                padding_mode="border",
                align_corners=False,
            )
            vectors.append(F.normalize(dense.fine_projector(at[0, :, :, 0, 0].T), dim=1))
        exponentials = (vectors[0] @ vectors[1].T / 0.1).exp()
        one = -(exponentials.diag() / exponentials.sum(dim=1)).log().mean()
        other = -(exponentials.diag() / exponentials.sum(dim=0)).log().mean()
        expected.append((one + other) / 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = dense._contrast(features, projector, places)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_transformer_and_trunk_learn_from_it():
    student, dense = parts()
    batch = pairs()
    optimizer = torch.optim.AdamW([*student.parameters(), *dense.parameters()], lr=2e-3)
    losses = []
    for _ in range(15):
        loss = dense(student, *batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert abs(losses[0] - 2 * math.log(PLACES)) < 2, "at first every place is as likely as another"
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in student.blocks[-1].parameters())
    assert all(p.grad is not None for p in dense.trunk.parameters())


def test_the_loss_of_a_batch_is_the_mean_over_its_volumes():
    student, dense = parts()
    batch = pairs()
    each = [dense(student, *(part[n : n + 1] for part in batch)) for n in range(2)]
    torch.testing.assert_close(dense(student, *batch), torch.stack(each).mean(), atol=1e-4, rtol=1e-4)
    assert not np.isclose(float(each[0]), float(each[1]))


def test_rescaled_kernels_have_the_size_of_fresh_ones_and_give_the_same_maps():
    torch.manual_seed(0)
    network = Trunk(1, preset("tiny"))
    fresh = {name: float(kernel.detach().norm()) for name, kernel in network.named_parameters() if kernel.ndim == 5}
    grown = [kernel for name, kernel in network.named_parameters() if kernel.ndim == 5 and "reducers" not in name]
    with torch.no_grad():
        for kernel in grown:
            kernel *= 7
    scan, tokens = torch.randn(1, 1, 32, 32, 32), [torch.randn(1, 192, 4, 4, 4) for _ in network.after]
    before = network(scan, tokens)
    rescale_kernels(network)
    after = network(scan, tokens)
    torch.testing.assert_close(after.fine, before.fine, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(after.coarse, before.coarse, atol=1e-3, rtol=1e-3)
    for name, kernel in network.named_parameters():
        if kernel.ndim == 5:
            assert float(kernel.detach().norm()) == pytest.approx(fresh[name], rel=0.02), name
