"""Crops: the right voxels at the right place, every class drawn, reproducible."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glmae.scans.classes import IGNORE
from glmae.scans.store import LabeledScan
from glmae.segmentation.crops import (
    CropSampler,
    SpatialChange,
    change_intensities,
    crops_device,
    cut,
    random_spatial_change,
    source_box,
    source_coordinates,
)
from glmae.segmentation.finetune_config import AugmentationConfig

PATCH = (16, 16, 8)
STILL = AugmentationConfig(spatial=0, elastic=0, intensity=0)


def coordinate_scan(shape=(40, 30, 20), annotated=(True, True)) -> LabeledScan:
    """A scan whose three channels hold the voxel indices, with a large and a tiny class."""
    image = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[5:25, 5:25, 5:15] = 1
    label[35:37, 27:29, 17:18] = 2  # four voxels in a corner
    return LabeledScan(image, label, annotated, (1.0, 1.0, 2.0))


def mixed_scan() -> LabeledScan:
    """A coordinate scan whose label tells each place from the next."""
    scan = coordinate_scan()
    return replace(scan, label=np.random.default_rng(0).integers(0, 3, scan.label.shape, dtype=np.uint8))


def test_an_unchanged_crop_is_a_copy():
    scan = mixed_scan()
    crop, target = cut(scan, np.array([15.5, 15.5, 9.5]), PATCH, SpatialChange(torch.eye(3), None))
    np.testing.assert_allclose(crop.numpy(), scan.image[:, 8:24, 8:24, 6:14], atol=1e-4)
    np.testing.assert_array_equal(target.numpy(), scan.label[8:24, 8:24, 6:14])


def test_beyond_the_border_the_image_goes_on_and_the_target_is_unknown():
    scan = coordinate_scan(shape=(40, 30, 4))
    crop, target = cut(scan, np.array([20, 15, 1.5]), PATCH, SpatialChange(torch.eye(3), None))
    assert (target.numpy()[:, :, :2] == IGNORE).all()
    assert (target.numpy()[:, :, 6:] == IGNORE).all()
    assert (target.numpy()[:, :, 2:6] != IGNORE).all()
    np.testing.assert_allclose(crop.numpy()[2, :, :, :2], 0, atol=1e-4)
    np.testing.assert_allclose(crop.numpy()[2, :, :, 6:], 3, atol=1e-4)


def test_image_and_target_move_together():
    scan = mixed_scan()
    change = random_spatial_change(
        AugmentationConfig(spatial=1, elastic=1), PATCH, scan.spacing, np.random.default_rng(3)
    )
    crop, target = cut(scan, np.array([15, 15, 10]), PATCH, change)
    inside = target.numpy() != IGNORE
    # The image holds the source coordinates, so the label there is known independently.
    source = np.rint(crop.numpy()).astype(int)
    expected = scan.label[tuple(source)]
    away = np.abs(crop.numpy() - source).max(axis=0) < 0.4  # rounding is ambiguous half-way between voxels
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(target.numpy()[inside & away], expected[inside & away])


@pytest.mark.parametrize("elastic", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_box_that_is_read_holds_a_crop_and_hardly_more(seed, elastic):
    config = AugmentationConfig(spatial=1, elastic=elastic)
    change = random_spatial_change(config, PATCH, (1.0, 1.0, 2.0), np.random.default_rng(seed))
    center = torch.tensor([15.0, 14.0, 9.0])
    coordinates = source_coordinates(change, center, PATCH)
    lowest, highest = source_box(change, center, PATCH)
    assert (lowest <= coordinates.amin(dim=(0, 1, 2)) + 1e-4).all()
    assert (highest >= coordinates.amax(dim=(0, 1, 2)) - 1e-4).all()
    assert (highest - lowest < (coordinates.amax(dim=(0, 1, 2)) - coordinates.amin(dim=(0, 1, 2))) + 2).all()


def test_rotation_is_rigid_in_millimeters():
    config = AugmentationConfig(spatial=1, scale=0, elastic=0)
    spacing = np.array([1.0, 1.0, 4.0])
    matrix = random_spatial_change(config, PATCH, tuple(spacing), np.random.default_rng(0)).matrix.numpy()
    in_mm = np.diag(spacing) @ matrix @ np.diag(1 / spacing)
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(in_mm) == pytest.approx(1, abs=1e-5), "a rotation, never a mirror image"


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_four_voxels_is_drawn_as_often_as_a_large_one(seed):
    sampler = CropSampler([coordinate_scan(), coordinate_scan()], PATCH, 2, 0.67, STILL, seed)
    crops = [target for step in range(40) for target in sampler.batch(step).target]
    shares = [np.mean([bool((target == c).any()) for target in crops]) for c in (1, 2)]
    assert min(shares) >= 0.25


def test_a_class_is_seen_in_all_of_the_middle_half_of_its_crops():
    scan = coordinate_scan(shape=(60, 60, 60))
    scan.label[:] = 0
    scan.label[30, 30, 30] = 1
    sampler = CropSampler([scan], (16, 16, 16), 4, 1.0, None, 0)
    targets = np.concatenate([sampler.batch(step).target.numpy() for step in range(20)])
    seen = np.argwhere(targets == 1)[:, 1:]
    assert len(seen) == len(targets)
    assert (seen.min(axis=0).tolist(), seen.max(axis=0).tolist()) == ([4, 4, 4], [11, 11, 11])


def test_the_same_seed_and_step_give_the_same_batch():
    scans = [coordinate_scan(), coordinate_scan(shape=(20, 50, 30))]
    first, again, other = (CropSampler(scans, PATCH, 2, 0.67, AugmentationConfig(), seed) for seed in (7, 7, 8))
    later = first.batch(5)
    assert torch.equal(later.image, again.batch(5).image)
    assert torch.equal(later.target, again.batch(5).target)
    assert not torch.equal(later.image, first.batch(6).image)
    assert not torch.equal(later.image, other.batch(5).image)


@pytest.mark.parametrize("rounding", [0.0, 2.4e-7])
def test_intensity_changes_leave_air_alone(rounding):
    """A crop of a CT's air, interpolated: one value but for rounding. A NaN in it would end the training."""
    air = torch.full((1, 8, 8, 8), -2.359375)
    air[0, 0] += rounding
    for seed in range(40):
        assert torch.equal(change_intensities(air, 1.0, seed), air)


def test_augmentation_changes_intensities_but_keeps_them_finite():
    scan = coordinate_scan()
    scan = LabeledScan((scan.image - 15) / 10, scan.label, scan.annotated, scan.spacing)
    config = AugmentationConfig(spatial=0, elastic=0, intensity=1)
    sampler = CropSampler([scan], PATCH, 2, 1.0, config, seed=0)
    plain = CropSampler([scan], PATCH, 2, 1.0, STILL, seed=0)
    for step in range(5):
        changed, unchanged = sampler.batch(step), plain.batch(step)
        assert torch.isfinite(changed.image).all()
        assert not torch.allclose(changed.image, unchanged.image, atol=0.05)


def test_each_crop_is_turned_and_scaled_in_its_own_way():
    scan = coordinate_scan(shape=(60, 60, 60))
    scan.label[:] = 0
    scan.label[28:32, 28:32, 28:32] = 1

    def directions(config: AugmentationConfig) -> list[np.ndarray]:
        """Along which voxels of the scan the three axes of each crop run, around its center."""
        sampler = CropSampler([scan], PATCH, 2, 1.0, config, seed=0)
        crops = [crop.numpy() for step in range(2) for crop in sampler.batch(step).image]
        return [np.stack(np.gradient(crop, axis=(1, 2, 3)))[:, :, 8, 8, 4] for crop in crops]

    for plain in directions(STILL):
        np.testing.assert_allclose(plain, np.eye(3), atol=1e-3)
    changed = directions(AugmentationConfig(spatial=1, elastic=0, intensity=0))
    for number, one in enumerate(changed):
        assert not any(np.allclose(one, each, atol=0.02) for each in (np.eye(3), *changed[:number]))


def test_each_crop_has_intensity_changes_of_its_own():
    """Of a scan of one crop, which all crops are: the step and the seed decide how it is changed."""
    scan = coordinate_scan(shape=PATCH)
    scan = LabeledScan((scan.image - 8) / 5, scan.label, scan.annotated, scan.spacing)
    config = AugmentationConfig(spatial=0, elastic=0, intensity=1)
    first, again, other = (CropSampler([scan], PATCH, 2, 1.0, config, seed) for seed in (0, 0, 1))
    crops = [*first.batch(0).image, *first.batch(1).image, *other.batch(0).image]
    for number, crop in enumerate(crops):
        assert not any(torch.allclose(crop, each, atol=1e-3) for each in crops[:number])
    assert torch.equal(again.batch(1).image, first.batch(1).image)


def test_crops_are_plain_tensors():
    """MONAI's tensors would carry their metadata through every layer of the network."""
    batch = CropSampler([coordinate_scan()], PATCH, 1, 1.0, AugmentationConfig(), seed=0).batch(0)
    assert {type(part) for part in (batch.image, batch.target, batch.annotated)} == {torch.Tensor}


def test_scans_without_a_class_still_give_crops():
    scan = coordinate_scan(annotated=(True, False))
    scan.label[scan.label == 2] = 0
    batch = CropSampler([scan], PATCH, 2, 0.67, STILL, 0).batch(0)
    assert batch.annotated.tolist() == [[True, False]] * 2


def test_crops_of_a_partly_labeled_scan_hold_something_known():
    """A box in a corner of one scan is labeled, and another scan not at all: no crop is drawn in vain."""
    boxed, blank = coordinate_scan(shape=(64, 64, 64)), coordinate_scan(shape=(64, 64, 64))
    boxed.label[:], blank.label[:] = IGNORE, IGNORE
    boxed.label[40:48, 40:48, 40:48] = 0
    sampler = CropSampler([boxed, blank], (16, 16, 16), 2, 0.67, None, seed=0)
    for step in range(20):
        known = sampler.batch(step).target != IGNORE
        assert known.flatten(1).any(dim=1).all()


def test_a_crop_is_computed_on_the_device_asked_for():
    """On torch's "meta" device, which refuses operations that mix devices and computes shapes only."""
    scan = coordinate_scan(shape=(40, 30, 4))  # smaller than the crop, so that the target is cut off, too
    random = np.random.default_rng(3)
    change = random_spatial_change(AugmentationConfig(spatial=1, elastic=1), PATCH, scan.spacing, random)
    crop, target = cut(scan, np.array([15, 15, 2]), PATCH, change, torch.device("meta"))
    assert (crop.device.type, target.device.type) == ("meta", "meta")
    assert (crop.shape, target.shape) == ((3, *PATCH), PATCH)
    assert (crop.dtype, target.dtype) == (torch.float32, torch.uint8)


def test_apple_gpus_get_their_crops_from_the_cpu():
    assert [crops_device(torch.device(name)).type for name in ("cpu", "cuda", "mps")] == ["cpu", "cuda", "cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_makes_the_same_crops():
    scan = coordinate_scan()
    scan = LabeledScan(((scan.image - 15) / 10).astype(np.float16), scan.label, scan.annotated, scan.spacing)
    everything = AugmentationConfig(spatial=1, elastic=1, intensity=0.5)
    here, there = (
        CropSampler([scan], PATCH, 2, 0.67, everything, seed=1, device=torch.device(name)) for name in ("cpu", "cuda")
    )
    for step in range(10):
        expected, made = here.batch(step), there.batch(step)
        assert made.image.is_cuda
        assert made.target.is_cuda
        assert (made.target.cpu() == expected.target).float().mean() > 0.995  # half-way between two voxels
        torch.testing.assert_close(made.image.cpu(), expected.image, atol=0.02, rtol=0.01)
