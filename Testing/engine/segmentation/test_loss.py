"""The loss against a plain float64 formula, and its behavior where annotation is missing; within autocast, too."""

import numpy as np
import pytest
import torch

from glmae.scans.classes import IGNORE
from glmae.segmentation.loss import dice_cross_entropy, segmentation_loss

SHAPE = (4, 5, 6)


def plain_loss(logits: np.ndarray, target: np.ndarray, annotated: np.ndarray, balance: float) -> float:
    """Dice + cross-entropy voxel by voxel, in loops."""
    samples, channels = logits.shape[:2]
    cross_entropy, weights = 0.0, 0.0
    overlap, predicted, truth = (np.zeros(channels) for _ in range(3))
    for b in range(samples):
        for voxel in np.ndindex(*target.shape[1:]):
            value = target[(b, *voxel)]
            if value == IGNORE:
                continue
            weight = 1 / (target == value).sum() ** balance
            weights += weight
            exponent = np.exp(logits[(b, slice(None), *voxel)])
            probability = exponent / exponent.sum()
            hidden = [c for c in range(1, channels) if not annotated[b, c - 1]]
            probability[0] += probability[hidden].sum()
            cross_entropy -= weight * np.log(probability[value])
            for c in range(1, channels):
                if annotated[b, c - 1]:
                    overlap[c] += probability[c] * (value == c)
                    predicted[c] += probability[c]
                    truth[c] += value == c
    terms = [1 - (2 * overlap[c] + 1e-5) / (predicted[c] + truth[c] + 1e-5) for c in range(1, channels) if truth[c]]
    return cross_entropy / weights + (sum(terms) / len(terms) if terms else 0.0)


@pytest.fixture(autouse=True, params=[False, True], ids=["float32", "autocast"])
def precision(request):
    with torch.autocast("cpu", torch.bfloat16, enabled=request.param):
        yield


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, *SHAPE, generator=generator)
    target = torch.randint(0, 4, (2, *SHAPE), generator=generator).to(torch.uint8)
    return logits, target, torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize("case", ["complete", "ignored voxels", "class not drawn", "class absent", "nothing drawn"])
@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_equals_the_plain_formula(example, case, balance):
    logits, target, annotated = example
    if case == "ignored voxels":
        target[:, :2] = IGNORE
    if case == "class not drawn":
        annotated[0, 1] = False
        target[0][target[0] == 2] = 0
    if case == "class absent":
        target[target == 3] = 0
    if case == "nothing drawn":
        target[:] = 0
    expected = plain_loss(logits.double().numpy(), target.numpy(), annotated.numpy(), balance)
    assert float(dice_cross_entropy(logits, target, annotated, balance)) == pytest.approx(expected, rel=1e-5)


def test_a_class_that_was_not_drawn_may_be_predicted_in_the_background(example):
    logits, target, annotated = example
    target[target == 2] = 0
    annotated[:, 1] = False
    sure_of_hidden_class = logits.clone()
    sure_of_hidden_class[:, 2][target == 0] += 20
    sure_of_background = logits.clone()
    sure_of_background[:, 0][target == 0] += 20
    hidden = dice_cross_entropy(sure_of_hidden_class, target, annotated)
    background = dice_cross_entropy(sure_of_background, target, annotated)
    assert float(hidden) == pytest.approx(float(background), abs=1e-3)
    annotated[:, 1] = True
    assert dice_cross_entropy(sure_of_hidden_class, target, annotated) > background + 1


def test_ignored_voxels_have_no_gradient(example):
    logits, target, annotated = example
    target[:, 1:3] = IGNORE
    logits.requires_grad_()
    dice_cross_entropy(logits, target, annotated).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, 1:3].any()
    assert logits.grad[:, :, 3:].any()


def test_coarser_resolutions_count_half(example):
    logits, target, annotated = example
    coarse = torch.randn(2, 4, 2, 2, 3, generator=torch.Generator().manual_seed(2))
    picked = torch.nn.functional.interpolate(target[:, None].float(), (2, 2, 3), mode="nearest-exact")[:, 0].byte()
    fine = dice_cross_entropy(logits, target, annotated)
    expected = (fine + 0.5 * dice_cross_entropy(coarse, picked, annotated)) / 1.5
    assert float(segmentation_loss([logits, coarse], target, annotated)) == pytest.approx(float(expected))


@pytest.mark.parametrize("axis", range(3))
def test_single_labeled_slices_reach_the_coarser_resolution(axis):
    """Only the even slices are known, which every second voxel would miss: coarse logits learn from all of them."""
    known = torch.full((8, 8, 8), IGNORE, dtype=torch.uint8)
    known[::2] = 0
    known[::2, 2:6, 2:6] = 1
    target = known.movedim(0, axis)[None]
    coarse = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    fine = torch.zeros(1, 2, 8, 8, 8)
    segmentation_loss([fine, coarse], target, torch.tensor([[True]])).backward()
    pulled = -coarse.grad[0, 1].movedim(axis, 0)  # up where the class is, down elsewhere
    assert (pulled[:, 1:3, 1:3] > 0).all()
    assert (pulled[:, 0] < 0).all()
