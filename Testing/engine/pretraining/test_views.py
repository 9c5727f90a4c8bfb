import numpy as np
import pytest
import torch
from sample_scans import ScanList, sample_scans, small_config
from scipy.ndimage import map_coordinates

from glmae.pretraining.configuration import LossWeights, pretrain_config
from glmae.pretraining.views import cut_views, generator, read_neighborhoods, scan_of


def test_views_equal_plain_trilinear_interpolation():
    random = np.random.default_rng(0)
    region = random.normal(size=(1, 2, 9, 12, 7)).astype(np.float32)
    corner, extent, side = np.array([1.5, 2.0, 0.7]), np.array([6.0, 8.0, 5.5]), 8
    boxes = torch.tensor(np.stack([corner, extent]), dtype=torch.float32)[None, None]
    jitter = torch.tensor([[[1.5, -0.25]]])
    found = cut_views(torch.from_numpy(region), boxes, jitter, side)
    assert found.shape == (1, 1, 2, side, side, side)
    places = [corner[a] + (np.arange(side) + 0.5) * extent[a] / side - 0.5 for a in range(3)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    for channel in range(2):
        expected = map_coordinates(region[0, channel], grid, order=1, mode="nearest") * 1.5 - 0.25
        np.testing.assert_allclose(found[0, 0, channel].numpy(), expected, atol=1e-4)


def test_a_box_of_the_views_size_copies_the_voxels():
    region = torch.randn(2, 1, 16, 20, 18)
    boxes = torch.tensor([[[[3.0, 4, 5], [8, 8, 8]], [[0.0, 12, 10], [8, 8, 8]]]]).expand(2, -1, -1, -1)
    cut = cut_views(region, boxes, torch.tensor([1.0, 0.0]).expand(2, 2, 2), 8)
    torch.testing.assert_close(cut[:, 0], region[:, :, 3:11, 4:12, 5:13], atol=1e-4, rtol=0)
    torch.testing.assert_close(cut[:, 1], region[:, :, 0:8, 12:20, 10:18], atol=1e-4, rtol=0)


def test_boxes_lie_in_the_region_and_keep_their_scale():
    config = small_config(batch=4, local_views=5)
    scans = ScanList([np.random.default_rng(0).normal(size=(1, 60, 70, 64)).astype(np.float16)])
    for step in range(5):
        batch = read_neighborhoods(config, scans, step)
        assert batch.regions.shape == (4, 1, 40, 40, 40), "1.25 sides of a global view"
        for boxes, side, (low, high) in (
            (batch.global_boxes, 32, config.global_scale),
            (batch.local_boxes, 16, config.local_scale),
        ):
            corner, extent = boxes.unbind(2)
            assert (corner >= 0).all()
            assert (corner + extent <= 40 + 1e-4).all()
            assert torch.equal(extent[..., 0], extent[..., 2]), "one magnification for all axes"
            assert (extent >= side * low - 1e-4).all()
            assert (extent <= side * high + 1e-4).all()


def test_a_small_scan_is_magnified_whole_and_not_stretched_too_far():
    config = small_config(batch=1)
    thin = ScanList([np.random.default_rng(0).normal(size=(1, 50, 50, 12)).astype(np.float16)])
    batch = read_neighborhoods(config, thin, 0)
    assert batch.regions.shape[2:] == (18, 18, 12), "at most 1.5 times the thinnest side"
    extent = batch.global_boxes[:, :, 1]
    assert (extent.max(-1).values / extent.min(-1).values <= 1.5 + 1e-4).all()
    views = cut_views(batch.regions, batch.global_boxes, batch.global_jitter, 32)
    assert views.shape == (1, 2, 1, 32, 32, 32)
    assert torch.isfinite(views).all()


def test_padding_of_smaller_regions_is_never_seen():
    small, large = (np.random.default_rng(n).normal(size=(1, n, n, n)).astype(np.float16) for n in (20, 40))
    config = small_config(batch=1)
    alone = read_neighborhoods(config, ScanList([small]), 0)
    jitter = alone.global_jitter
    padded = torch.nn.functional.pad(alone.regions.float(), (0, 20) * 3, mode="replicate")
    torch.testing.assert_close(
        cut_views(padded, alone.global_boxes, jitter, 32),
        cut_views(alone.regions, alone.global_boxes, jitter, 32),
        atol=1e-3,
        rtol=0,
    )
    both = read_neighborhoods(small_config(batch=2), ScanList([small, large]), 0)
    assert both.regions.shape[2:] == (40, 40, 40)


def test_a_step_is_a_function_of_seed_and_step():
    scans, config = sample_scans(), small_config()
    first, again = (read_neighborhoods(config, scans, 7) for _ in range(2))
    assert torch.equal(first.regions, again.regions)
    assert torch.equal(first.local_boxes, again.local_boxes)
    assert torch.equal(torch.rand(3, generator=first.generators[1]), torch.rand(3, generator=again.generators[1]))
    for other in (read_neighborhoods(config, scans, 8), read_neighborhoods(small_config(seed=1), scans, 7)):
        assert not torch.equal(first.local_boxes, other.local_boxes)
        assert not torch.equal(
            torch.rand(3, generator=first.generators[0]), torch.rand(3, generator=other.generators[0])
        )


def test_every_scan_is_seen_once_in_an_epoch():
    epochs = [[scan_of(3, epoch * 5 + place, 5) for place in range(5)] for epoch in range(4)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_streams_are_independent():
    drawn = {
        float(torch.rand(1, generator=generator(*key)))
        for key in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (-1, 0, 0, 0)]
    }
    assert len(drawn) == 6


def test_regions_of_air_are_avoided():
    image = np.zeros((1, 120, 120, 120), np.float16)
    image[:, 70:, 70:, 70:] = np.random.default_rng(0).normal(size=(1, 50, 50, 50))
    config = small_config(batch=1)
    seen = [bool(read_neighborhoods(config, ScanList([image]), step).regions.any()) for step in range(20)]
    assert sum(seen) >= 14, "of regions at random places, about one in five holds something"


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_memory_mapped_scans_are_read(tmp_path, kind):
    values = sample_scans(1).image(0).astype(kind)
    np.save(tmp_path / "scan.npy", values)
    mapped = ScanList([np.load(tmp_path / "scan.npy", mmap_mode="r")])
    assert torch.equal(
        read_neighborhoods(small_config(), mapped, 0).regions,
        read_neighborhoods(small_config(), ScanList([values]), 0).regions,
    )


class TwoAppearances(ScanList):
    """Scans that are there in a second appearance, the negative of the first."""

    def appearances(self, index):
        return self.image(index), -self.image(index)


def test_the_teacher_sees_the_same_region_in_the_other_appearance():
    arrays = [np.random.default_rng(n).normal(size=(1, 90, 90, 90)).astype(np.float32) for n in range(3)]
    config = pretrain_config("tiny", batch=8)
    batch = read_neighborhoods(config, TwoAppearances(arrays), 0)
    assert batch.anchors is not None
    turned = [torch.equal(a, -r) for a, r in zip(batch.anchors, batch.regions, strict=True)]
    kept = [torch.equal(a, r) for a, r in zip(batch.anchors, batch.regions, strict=True)]
    assert any(turned)
    assert any(kept)
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert read_neighborhoods(config, ScanList(arrays), 0).anchors is None
    alone = pretrain_config("tiny", batch=8, weights=LossWeights(global_global=0, global_local=0))
    assert read_neighborhoods(alone, TwoAppearances(arrays), 0).anchors is None, "no teacher, no anchor"
