"""Pairs of views: the places that are compared show the same anatomy in both."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glmae.pretraining.configuration import pretrain_config
from glmae.pretraining.views import read_neighborhoods
from research.dense_consistency import dense_consistency, dense_pair
from research.synthetic_volumes import SyntheticScans

SIDE, PLACES = 32, 200


class ScanList(list):
    """Scans in memory, [C, I, J, K] each."""

    image = list.__getitem__


def coordinates(shape):
    """A scan whose channels are its own voxel coordinates, scaled."""
    grid = np.stack(np.meshgrid(*[np.arange(side) for side in shape], indexing="ij")).astype(np.float32)
    return grid / 10


def sampled(views, places):
    found = F.grid_sample(views, places[:, :, None, None], padding_mode="border", align_corners=False)
    return found[..., 0, 0]  # [2, C, n]


@pytest.mark.parametrize("shape", [(60, 50, 70), (30, 20, 26)])
def test_the_places_of_both_views_are_the_same_places_of_the_scan(shape, monkeypatch):
    monkeypatch.setattr("research.dense_consistency._pictured", lambda view, random: view)
    for seed in range(5):
        views, places = dense_pair(None, coordinates(shape), SIDE, PLACES, [seed])
        assert views.shape == (2, 3, SIDE, SIDE, SIDE)
        assert places.shape == (2, PLACES, 3)
        wide, close = sampled(views, places)
        assert float((wide - close).abs().max()) < 0.05, "half a voxel"
        assert float(wide.std()) > 0.1, "not one place only"


def test_views_are_pictured_differently_and_repeat_with_the_seed():
    image = np.random.default_rng(0).normal(size=(1, 50, 50, 50)).astype(np.float32)
    first, again, other = (dense_pair(None, image, SIDE, PLACES, [seed])[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_two_appearances_of_one_anatomy_are_used():
    scans = SyntheticScans(1, side=48)
    first, second = scans.appearances(0)
    pairs = [dense_pair((first, second), first, SIDE, PLACES, [seed])[0] for seed in range(6)]
    alone = [dense_pair(None, first, SIDE, PLACES, [seed])[0] for seed in range(6)]
    assert any(not torch.equal(a, b) for a, b in zip(pairs, alone, strict=True))


def test_a_scan_of_one_value_gives_views_all_the_same():
    views, places = dense_pair(None, np.zeros((1, 20, 20, 20), dtype=np.float32), SIDE, PLACES, [0])
    assert bool(views.isfinite().all())
    assert places.shape == (2, PLACES, 3)


@pytest.mark.parametrize(("weight", "there"), [(1.0, True), (0.0, False)])
def test_they_are_made_only_where_the_term_is_on(weight, there):
    config, make = pretrain_config("tiny"), dense_consistency(weight)
    scans = ScanList([np.random.default_rng(0).normal(size=(1, 40, 40, 40)).astype(np.float32)])
    batch = read_neighborhoods(config, scans, 0, further=None if make is None else make(config.backbone))
    assert (len(batch.further) == 2) == there
    assert all(part.shape[:2] == (config.batch, 2) for part in batch.further)


def test_pairs_are_made_on_the_device_asked_for_without_waiting_for_it():
    """On torch's "meta" device, which has no values to wait for and refuses operations that mix devices."""
    image = np.random.default_rng(0).normal(size=(1, 50, 50, 50)).astype(np.float16)
    for seed in range(8):  # all kinds of pictures among them
        views, places = dense_pair((image, -image), image, SIDE, PLACES, [seed], torch.device("meta"))
        assert (views.device.type, places.device.type) == ("meta", "meta")
        assert (views.shape, places.shape) == ((2, 1, SIDE, SIDE, SIDE), (2, PLACES, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_makes_the_same_pairs():
    image = SyntheticScans(1, side=48).image(0)
    for seed in range(8):
        here, there = (dense_pair(None, image, SIDE, PLACES, [seed], torch.device(name)) for name in ("cpu", "cuda"))
        torch.testing.assert_close(there[0].cpu(), here[0], atol=1e-2, rtol=1e-2)
        assert (there[1].cpu() == here[1]).float().mean() > 0.9  # but for places at the edge of air
