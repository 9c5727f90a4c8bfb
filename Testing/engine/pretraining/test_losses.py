"""Each loss against a formula written out in float64 numpy, alone and within autocast, as training computes it."""

import math

import numpy as np
import pytest
import torch

from glmae.pretraining.gl_mae import (
    consistency_loss,
    normalize_patches,
    reconstruction_loss,
    spread_loss,
    teacher_distribution,
    updated_center,
)


@pytest.fixture(autouse=True, params=[False, True], ids=["float32", "autocast"])
def precision(request):
    with torch.autocast("cpu", torch.bfloat16, enabled=request.param):
        yield


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_reconstruction_is_the_mean_squared_error():
    predicted, target = random(3, 5, 8), random(3, 5, 9)[..., :8]
    total = 0.0
    for a, b in zip(predicted.flatten().tolist(), target.flatten().tolist(), strict=True):
        total += (a - b) ** 2
    np.testing.assert_allclose(float(reconstruction_loss(predicted, target)), total / 120, rtol=1e-6)


def test_patches_are_normalized_one_by_one():
    patches = 40 + 7 * random(2, 3, 64)
    values = patches.double().numpy()
    expected = np.empty_like(values)
    for b in range(2):
        for n in range(3):
            deviation = np.sqrt(values[b, n].var(ddof=1) + 1e-6)
            expected[b, n] = (values[b, n] - values[b, n].mean()) / deviation
    np.testing.assert_allclose(normalize_patches(patches).numpy(), expected, atol=1e-4)
    assert normalize_patches(torch.full((1, 1, 8), 5.0)).abs().max() == 0


def test_teacher_is_centered_and_sharpened():
    similarities, center = random(2, 2, 6), random(6)
    exponents = np.exp((similarities.double().numpy() - center.double().numpy()) / 0.04)
    expected = exponents / exponents.sum(-1, keepdims=True)
    np.testing.assert_allclose(teacher_distribution(similarities, center, 0.04).numpy(), expected, atol=1e-5)


def test_consistency_is_the_mean_cross_entropy_of_all_pairs():
    student = random(2, 3, 6)
    teacher = torch.softmax(random(2, 2, 6), dim=-1)
    pairs = []
    for b in range(2):
        for view in range(3):
            logits = student[b, view].double().numpy() / 0.1
            log_probability = logits - np.log(np.exp(logits).sum())
            for anchor in range(2):
                pairs.append(-(teacher[b, anchor].double().numpy() * log_probability).sum())
    assert len(pairs) == 2 * 3 * 2, "pairs of the same view count"
    np.testing.assert_allclose(float(consistency_loss(student, teacher, 0.1)), np.mean(pairs), rtol=1e-5)


def test_center_is_a_running_mean():
    center, similarities = random(6), random(4, 2, 6)
    expected = 0.9 * center.double().numpy() + 0.1 * similarities.double().numpy().reshape(8, 6).mean(0)
    np.testing.assert_allclose(updated_center(center, similarities, 0.9).numpy(), expected, atol=1e-6)


def test_the_spread_is_koleo_between_volumes_and_not_between_views():
    cls = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0))
    points, expected = cls / cls.norm(dim=-1, keepdim=True), []
    for view in range(2):
        for volume in range(4):
            others = [points[other, view] for other in range(4) if other != volume]
            nearest = min(float((points[volume, view] - other).norm()) for other in others)
            expected.append(-math.log(nearest))
    assert float(spread_loss(cls)) == pytest.approx(sum(expected) / len(expected), abs=1e-4)


@pytest.mark.parametrize("noise", [0.1, 0.05, 0.02])
def test_near_collapse_the_spread_still_finds_the_nearest_volume(noise):
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(1, 1, 192, generator=generator) + noise * torch.randn(32, 2, 192, generator=generator)
    cls.requires_grad_()
    loss = spread_loss(cls)
    (gradient,) = torch.autograd.grad(loss, cls)

    exact = cls.detach().double().requires_grad_()
    points = exact / exact.norm(dim=-1, keepdim=True)
    apart = (points[:, None] - points[None]).square().sum(dim=-1)  # [32, 32, 2]
    nearest = (apart + 9 * torch.eye(32, dtype=torch.float64)[..., None]).amin(dim=1)
    expected = -0.5 * (nearest + 1e-8).log().mean()
    (right,) = torch.autograd.grad(expected, exact)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-4)
    assert float(torch.cosine_similarity(gradient.double().flatten(), right.flatten(), dim=0)) > 0.999


def test_the_spread_of_equal_volumes_is_finite_and_drives_them_apart():
    cls = (
        torch.ones(2, 1, 8) + 1e-3 * torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    before = spread_loss(cls)
    before.backward()
    after = spread_loss(cls.detach() - 1e-4 * cls.grad / cls.grad.norm())
    assert float(after) < float(before.detach())
    same = spread_loss(torch.ones(3, 2, 8, requires_grad=True))
    same.backward()
    assert bool(same.isfinite())
