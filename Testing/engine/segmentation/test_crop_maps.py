"""Augmented crops for the head: the same for the same scan and label, made once, and unknown where maps are poor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from glmae.backbone.presets import preset
from glmae.errors import Stopped
from glmae.scans.classes import IGNORE
from glmae.scans.store import LabeledScan
from glmae.segmentation.crop_maps import CropMaps, crops_of_each
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.head_fit import LabeledMaps, sample_places
from glmae.segmentation.network import SegmentationNetwork
from glmae.segmentation.scan_maps import scan_maps

CPU = torch.device("cpu")
CONFIG = FinetuneConfig(crop=(32, 32, 32))


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(preset("tiny"), 1).eval()


@pytest.fixture(scope="module")
def scan() -> LabeledScan:
    image = np.random.default_rng(0).normal(size=(1, 40, 40, 40)).astype(np.float32)
    label = np.zeros((40, 40, 40), dtype=np.uint8)
    label[12:24, 12:24, 12:24] = 1
    return LabeledScan(image, label, (True,), (1.0, 1.0, 1.0))


def crops(maps, network, scan, count, key="a", made=None, config=CONFIG) -> list[LabeledMaps]:
    return list(maps.of(network, scan, key, count, config, CPU, [].append if made is None else made.append))


def same(one: LabeledMaps, two: LabeledMaps) -> bool:
    levels = zip(one.maps.levels, two.maps.levels, strict=True)
    return all(torch.equal(a, b) for a, b in levels) and np.array_equal(one.label, two.label)


def test_what_is_there_is_not_made_again(network, scan):
    maps, made = CropMaps(), []
    first = crops(maps, network, scan, 2, made=made)
    more = crops(maps, network, scan, 3, made=made)
    assert made == [0, 1, 2]
    assert all(map(same, more, first))
    assert all(map(same, more, crops(CropMaps(), network, scan, 3)))
    assert not same(more[0], more[1])
    assert len(crops(maps, network, scan, 1, made=made)) == 1
    crops(maps, network, scan, 1, key="another label", made=made)
    assert made == [0, 1, 2, 0]
    maps.keep_only({"another label"})
    crops(maps, network, scan, 1, made=made)
    assert made == [0, 1, 2, 0, 0]


def test_a_crop_is_changed_as_for_training(network, scan):
    still = replace(CONFIG, augmentation=replace(CONFIG.augmentation, spatial=0.0, elastic=0.0, intensity=0.0))
    changed = replace(CONFIG, augmentation=replace(CONFIG.augmentation, spatial=1.0))
    (one,), (other,) = (crops(CropMaps(), network, scan, 1, config=config) for config in (still, changed))
    assert not same(one, other)
    sizes = [np.count_nonzero(crop.label == 1) for crop in crops(CropMaps(), network, scan, 6, config=changed)]
    assert len(set(sizes)) > 3, "larger and smaller"


def test_the_border_of_a_crop_is_unknown(network, scan):
    (crop,) = crops(CropMaps(), network, scan, 1)
    inner = np.zeros((32, 32, 32), dtype=bool)
    inner[4:28, 4:28, 4:28] = True
    assert (crop.label[~inner] == IGNORE).all()
    assert (crop.label[inner] != IGNORE).mean() > 0.5
    assert (crop.label == 1).any()


def test_it_can_be_stopped(network, scan):
    def stop(number: int) -> None:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        CropMaps().of(network, scan, "a", 1, CONFIG, CPU, stop)


def test_most_places_lie_in_the_crops_where_there_are_some(network, scan, monkeypatch):
    monkeypatch.setattr("glmae.segmentation.head_fit.CLASS_PLACES", 100)
    monkeypatch.setattr("glmae.segmentation.head_fit.OTHER_PLACES", 200)
    whole = LabeledMaps(scan_maps(network, scan.image, CONFIG.crop, CPU), scan.label, scan.annotated)
    alone = sample_places(network.head, [whole], np.random.default_rng(0))
    assert len(alone.features) == pytest.approx(300, abs=30)  # a place may be drawn for two reasons
    some, random = crops(CropMaps(), network, scan, 2), np.random.default_rng
    drawn = [len(sample_places(network.head, [whole] * n, random(0), some).features) for n in (1, 2)]
    whole = replace(whole, label=np.full_like(whole.label, IGNORE))
    of_crops = [len(sample_places(network.head, [whole] * n, random(0), some).features) for n in (1, 2)]
    assert drawn == pytest.approx([300, 300], abs=40)
    assert of_crops == pytest.approx([210, 105], abs=30)


def test_many_scans_give_fewer_crops_each():
    assert [crops_of_each(CONFIG, scans) for scans in (1, 3, 4, 8, 100)] == [16, 11, 8, 4, 1]
