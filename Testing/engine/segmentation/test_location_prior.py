"""Where classes are expected, and what it makes of the network's probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor
from voxelwise import Voxelwise, class_probabilities

from glmae.scans.cases import find_cases
from glmae.scans.classes import IGNORE
from glmae.scans.fingerprint import Fingerprint
from glmae.scans.store import ScanStore
from glmae.schedule import Schedule
from glmae.segmentation.crops import CropSampler, LabeledScan
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.inference import segment_case
from glmae.segmentation.labeled_cases import LabeledCases
from glmae.segmentation.location_prior import LEAST, PLACES, LocationPrior
from glmae.segmentation.model import load_model
from glmae.segmentation.training import Training

CPU = torch.device("cpu")
SPACING = (1.0, 1.0, 1.0)


def scan(shift: int = 0, side: int = 64, annotated: tuple[bool, ...] = (True, True)) -> LabeledScan:
    """A body that fills the scan but for a margin of 8 voxels; class 1 on the left, class 2 on the right of it."""
    image = np.zeros((1, side, side, side), dtype=np.float32)
    image[0, 8:-8, 8:-8, 8:-8] = 1.0
    label = np.zeros((side, side, side), dtype=np.uint8)
    label[12 + shift : 20 + shift, 28:36, 28:36] = 1
    label[44:52, 28:36, 28:36] = 2
    return LabeledScan(image, label, annotated, SPACING)


class Everywhere(Voxelwise):
    """Says 0.2 background, 0.5 class 1, 0.3 class 2 in every voxel."""

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        shares = torch.tensor([0.2, 0.5, 0.3]).log()
        return [shares.view(1, 3, 1, 1, 1).expand(len(maps[0]), 3, *maps[0].shape[2:])]


def weighed(prior: LocationPrior, image: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    return class_probabilities(Everywhere(), image, (32, 32, 32), CPU, priors=[prior.on(image, spacing)])


def test_left_and_right_are_told_apart_by_place() -> None:
    one = scan()
    found = weighed(LocationPrior.of([one]), one.image)
    assert found.argmax(axis=0)[16, 32, 32] == 1
    assert found.argmax(axis=0)[48, 32, 32] == 2
    assert found.argmax(axis=0)[32, 60, 60] == 0
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-2)


def test_weights_equal_the_definition() -> None:
    """Against numpy, voxel by voxel: factor times probability, of sum one."""
    one = scan()
    prior = LocationPrior.of([one])
    found = weighed(prior, one.image)
    for voxel in [(16, 32, 32), (20, 40, 33), (30, 30, 30), (2, 2, 2), (63, 0, 31)]:
        at = [np.clip((index + 0.5 - 8) / 48 * PLACES - 0.5, 0, PLACES - 1) for index in voxel]
        low = [min(int(a), PLACES - 2) for a in at]
        expected = np.array([0.2, 0.5, 0.3])
        for number in (0, 1):
            total = 0.0
            for corner in np.ndindex(2, 2, 2):
                share = np.prod([c * (a - b) + (1 - c) * (1 - a + b) for c, a, b in zip(corner, at, low, strict=True)])
                total += share * prior.factors[number][tuple(np.add(low, corner))]
            expected[number + 1] *= total
        np.testing.assert_allclose(found[(slice(None), *voxel)], expected / expected.sum(), atol=4e-3)


def test_the_body_counts_not_the_frame() -> None:
    one = scan()
    padded = np.pad(one.image, [(0, 0), (40, 0), (0, 0), (0, 24)])
    found = weighed(LocationPrior.of([one]), padded).argmax(axis=0)
    assert found[56, 32, 32] == 1
    assert found[88, 32, 32] == 2


def test_another_length_of_the_body_switches_an_axis_off() -> None:
    one = scan()
    prior = LocationPrior.of([one])
    # Twice as long from left to right: the sides are no longer told apart, but front and back are.
    found = weighed(prior, one.image, (2.0, 1.0, 1.0)).argmax(axis=0)
    assert found[16, 32, 32] == found[48, 32, 32] == 1
    assert found[32, 60, 60] == 0


def test_places_of_several_scans_widen_the_prior() -> None:
    near = LocationPrior.of([scan(), scan()]).factors[0]
    far = LocationPrior.of([scan(), scan(20)]).factors[0]
    assert (far > 0.5).sum() > 2 * (near > 0.5).sum()
    assert far[(20 - 8) * PLACES // 48, PLACES // 2, PLACES // 2] == pytest.approx(1, abs=0.01)


def test_nothing_is_said_of_classes_drawn_in_part() -> None:
    partly = scan(annotated=(True, False))
    assert (LocationPrior.of([partly]).factors[1] == 1).all()
    partly.label[:, :, :10] = IGNORE
    assert (LocationPrior.of([partly]).factors == 1).all()


def test_tiny_structure_has_a_place() -> None:
    one = scan(side=200)
    one.label[:] = 0
    one.label[101, 77, 50] = 1
    factors = LocationPrior.of([one]).factors
    assert factors[0].max() == pytest.approx(1)
    assert factors[0].min() == pytest.approx(LEAST)


def test_kept_with_the_model_and_back() -> None:
    prior = LocationPrior.of([scan(), scan(6)])
    again = LocationPrior.from_tensors(prior.tensors(), 2)
    np.testing.assert_array_equal(again.factors, prior.factors)
    np.testing.assert_array_equal(again.lengths, prior.lengths)
    assert len(np.unique(prior.factors)) > 10


def test_damaged_priors_are_refused() -> None:
    good = LocationPrior.of([scan()]).tensors()
    for damaged in (
        {"factors": good["factors"]},
        good | {"factors": good["factors"][:1]},
        good | {"lengths": good["lengths"] * 0},
        good | {"lengths": good["lengths"] * float("nan")},
        good | {"factors": good["factors"] + 100},
    ):
        with pytest.raises(ValueError, match="location prior"):
            LocationPrior.from_tensors(damaged, 2)


def test_background_crops_lie_where_classes_are_looked_for() -> None:
    one = scan(side=128)
    near = LocationPrior.of([one]).on(one.image, SPACING).near(0.05)
    assert len(near) > 20
    assert near.max(axis=0)[1] < 90  # of 128
    places_alone = replace(one, image=np.indices((128, 128, 128), dtype=np.float32))
    sampler = CropSampler([places_alone], (16, 16, 16), 1, 0.0, None, 0, [near])
    places = [sampler.batch(step).image[0].mean(dim=(1, 2, 3)).numpy() for step in range(200)]
    inside = np.mean([min(abs(near - place).max(axis=1)) <= 8 for place in places])
    assert 0.7 < inside < 1.0


def test_fine_tuned_model_has_its_prior(trained_model: Path) -> None:
    model = load_model(trained_model, CPU)
    assert model.location is not None
    assert model.location.factors.min() < 0.1
    assert model.location.factors.max() == pytest.approx(1)


def test_results_and_held_out_scores_are_weighed(untrained_model: Path, sample_scans: Path, tmp_path: Path) -> None:
    """A prior that leaves the classes to the front half only, on a model that scatters them over the scan."""
    names = ["hippocampus_003"]
    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", names)
    model = load_model(untrained_model, CPU)
    factors = np.full((2, PLACES, PLACES, PLACES), LEAST, dtype=np.float32)
    factors[:, :, PLACES // 2 :] = 1.0
    store = ScanStore.prepare(tmp_path / "scans", cases, model.preparation, table)
    label = store.label(0)
    assert label is not None
    scan = LabeledScan(store.image(0), label, store.annotated(0), model.preparation.spacing)
    prior = LocationPrior(factors, LocationPrior.of([scan]).lengths)

    training = Training(model.network, FinetuneConfig(crop=model.config.crop), [scan], Schedule(1), CPU)
    training.location = prior
    scored = LabeledCases(cases, store, table, model.preparation).segment(0, training, lambda: None)
    segmented = segment_case(replace(model, fingerprint=Fingerprint(), location=prior), cases[0], CPU).labels
    everywhere = segment_case(replace(model, fingerprint=Fingerprint()), cases[0], CPU).labels

    def voxels(image: sitk.Image) -> tuple[int, int]:
        """Of any class, in the rear and in the front."""
        found = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS"))
        half = found.shape[1] // 2
        return int(np.count_nonzero(found[:, : half - 8])), int(np.count_nonzero(found[:, half + 8 :]))

    assert voxels(everywhere)[0] > 1000
    for weighed_result in (scored, segmented):
        assert voxels(weighed_result)[0] == 0
        assert voxels(weighed_result)[1] > 1000


def test_training_without_it(few_scans: Path, tmp_path: Path) -> None:
    finetune(
        images=few_scans / "images",
        labels=few_scans / "labels",
        out=tmp_path / "model",
        backbone="none",
        steps=1,
        device="cpu",
        settings={"crop": (16, 16, 16), "location": False, "start_steps": 20, "start_crops": 1},
    )
    assert load_model(tmp_path / "model", CPU).location is None
