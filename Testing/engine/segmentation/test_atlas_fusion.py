"""Labels of the training scans, moved to a first result: where they land, what they change, and when they stay out."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from glmae.scans.classes import IGNORE
from glmae.segmentation.atlas_fusion import AGREEMENT, WEIGHT, AtlasFusion
from glmae.segmentation.crops import LabeledScan

SPACING = (2.0, 2.0, 4.0)
BOUND = [1, 2, 3, 4]


def body(shift=(0.0, 0.0, 0.0), scale=1.0) -> np.ndarray:
    """[48, 40, 24] uint8: four balls of 16 to 22 mm in radius, not in one plane."""
    mm = np.stack(np.indices((48, 40, 24)), axis=-1) * np.array(SPACING)
    label = np.zeros(mm.shape[:3], dtype=np.uint8)
    balls = [((26, 30, 34), 18), ((70, 34, 30), 16), ((34, 58, 62), 20), ((66, 56, 66), 22)]
    for number, (center, radius) in enumerate(balls, 1):
        moved = (np.array(center) - 48) * scale + 48 + np.array(shift)
        label[((mm - moved) ** 2).sum(axis=-1) < (radius * scale) ** 2] = number
    return label


def scan(label: np.ndarray, annotated=(True, True, True, True)) -> LabeledScan:
    return LabeledScan(np.zeros((1, *label.shape), dtype=np.float32), label, annotated, SPACING)


def fusion(*labels: np.ndarray, bound=BOUND) -> AtlasFusion:
    found = AtlasFusion.of([scan(label) for label in labels], bound)
    assert found is not None
    return found


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.mean([2 * ((one == c) & (two == c)).sum() / ((one == c).sum() + (two == c).sum()) for c in BOUND]))


def pooled(atlases: AtlasFusion, first: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    moved = atlases.on(first, SPACING)
    assert moved is not None
    sums = torch.from_numpy(probabilities.copy()).half()
    weights = moved.weigh(sums, torch.ones(sums.shape[1:]), slice(0, sums.shape[3]))
    return (sums.float() / weights).numpy()


@pytest.mark.parametrize(
    ("shift", "scale"), [((0, 0, 0), 1.0), ((10, -8, 8), 1.0), ((4, 6, 4), 1.12), ((0, 0, 0), 0.88)]
)
def test_a_label_lands_on_the_classes_of_another_body(shift, scale):
    """Where the network says nothing at all, what is found is the moved label."""
    target = body(shift, scale)
    found = pooled(fusion(body()), target, np.full((5, *target.shape), 0.2, dtype=np.float32)).argmax(axis=0)
    assert dice(found, target) > 0.85
    if shift != (0, 0, 0):
        assert dice(body(), target) < 0.8, "without being moved it lies elsewhere"


def test_a_class_found_in_the_wrong_place_counts_little():
    target = body((6, 4, 4))
    first = target.copy()
    first[target == 1] = 0
    first[2:7, 30:36, 18:23] = 1  # a corner far from where class 1 is
    found = pooled(fusion(body()), first, np.full((5, *target.shape), 0.2, dtype=np.float32)).argmax(axis=0)
    assert dice(found, target) > 0.7
    assert 2 * ((found == 1) & (target == 1)).sum() / ((found == 1).sum() + (target == 1).sum()) > 0.6


def test_the_pool_is_logarithmic():
    """p^(1-w) a^w by hand, of a label that is not moved, along a plane of voxels."""
    target = body()
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=target.shape).transpose(3, 0, 1, 2).astype(np.float32)
    found = pooled(fusion(target), target, probabilities)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=5e-3)
    # Of the grid of the labels, which has every second voxel along the axes of 2 mm.
    thin = target[::2, ::2]
    shares = np.stack(
        [ndimage.gaussian_filter((thin == c).astype(float), 4 / np.array((4, 4, 4)), truncate=2.5) for c in BOUND]
    )
    shares = np.concatenate([1 - shares.sum(axis=0, keepdims=True), shares]).clip(1e-3, 1)
    expected = probabilities[:, ::2, ::2] ** (1 - WEIGHT) * shares**WEIGHT
    np.testing.assert_allclose(found[:, ::2, ::2], expected / expected.sum(axis=0), atol=2e-2)


def test_what_agrees_little_with_the_first_result_stays_out():
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 5, size=body().shape).astype(np.uint8)
    assert fusion(body()).on(noise, SPACING) is None
    assert fusion(body()).on(np.zeros_like(noise), SPACING) is None
    assert 0 < AGREEMENT < 1


def test_labels_that_agree_speak_where_others_do_not():
    unlike = np.zeros_like(body())
    unlike[::7, ::5, ::3] = 4
    target, flat = body((4, 4, 0)), np.full((5, *body().shape), 0.2, dtype=np.float32)
    both = pooled(fusion(body(), unlike), target, flat)
    np.testing.assert_allclose(both, pooled(fusion(body()), target, flat), atol=1e-2)


def test_classes_that_may_be_anywhere_are_not_asked_of_the_labels():
    target = body()
    probabilities = np.full((5, *target.shape), 0.05, dtype=np.float32)
    probabilities[4] = 0.8
    atlases = fusion(target, bound=[1, 2, 3])
    first = np.where(target == 4, 0, target).astype(np.uint8)
    found = pooled(atlases, first, probabilities).argmax(axis=0)
    assert (found[target == 0] == 4).mean() > 0.9, "the network alone decides"


def test_too_few_classes_or_unknown_parts_give_nothing():
    assert AtlasFusion.of([scan(body())], [1, 2]) is None
    assert AtlasFusion.of([scan(body(), (True, True, False, False))], BOUND) is None
    partly = body()
    partly[:, :, :5] = IGNORE
    assert AtlasFusion.of([scan(partly)], BOUND) is None


def test_what_a_model_keeps_is_the_same_and_damage_is_noticed():
    atlases = fusion(body(), body((8, 0, 0)))
    tensors = atlases.tensors()
    again = AtlasFusion.from_tensors(tensors, 4)
    for one, two in zip(atlases.atlases, again.atlases, strict=True):
        np.testing.assert_array_equal(one.label, two.label)
        assert (one.spacing, one.annotated) == (two.spacing, two.annotated)
    damaged = [
        {name: entry for name, entry in tensors.items() if name != "0.label"},
        tensors | {"1.spacing": torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)},
        tensors | {"1.label": torch.full((2, 2, 2), 9, dtype=torch.uint8)},
        tensors | {"0.annotated": torch.ones(3, dtype=torch.uint8)},
        {f"x{name}": entry for name, entry in tensors.items()},
    ]
    for entry in damaged:
        with pytest.raises(ValueError, match="labels"):
            AtlasFusion.from_tensors(entry, 4)
