"""Classes of a whole scan from its maps: the same as of all maps at once, in thin slabs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from voxelwise import Counted, Voxelwise, class_probabilities

from glmae.backbone.presets import BackboneConfig
from glmae.segmentation import class_slabs as module
from glmae.segmentation.class_slabs import Slab, class_slabs
from glmae.segmentation.network import ScanMaps, SegmentationNetwork
from glmae.segmentation.scan_maps import scan_maps

CPU = torch.device("cpu")
TOKEN = 8


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    """Random weights, but all the parts that a real one has."""
    torch.manual_seed(3)
    config = BackboneConfig(
        name="test", channels=1, patch_size=(TOKEN,) * 3, width=24, depth=2, heads=2, grid=(4, 4, 4),
        global_view=64, local_view=32, decoder_width=48, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    network = SegmentationNetwork(config, classes=4).eval()
    with torch.no_grad():
        network.head.output.weight.mul_(10)  # sure of itself, as a trained one is
        network.head.voxel_output.weight.normal_(std=0.3)  # voxels of a place differ, too
    return network


def maps_of(
    network: SegmentationNetwork, tokens: tuple[int, int, int], cut: tuple[int, int, int] = (0, 0, 0)
) -> ScanMaps:
    """Maps as they may be; at each end `cut` voxels were added to the scan."""
    generator = torch.Generator().manual_seed(0)
    levels, strides = [], []
    for stride, widths in zip((2, 4, 8), network.head.widths, strict=True):
        size = [count * TOKEN // stride for count in tokens]
        levels.append(torch.randn((sum(widths), *size), generator=generator).half())
        strides.append((stride,) * 3)
    i, j, k = (count * TOKEN - 2 * more for count, more in zip(tokens, cut, strict=True))
    return ScanMaps(tuple(levels), tuple(strides), (TOKEN,) * 3, cut, (i, j, k))


def all_at_once(network: SegmentationNetwork, maps: ScanMaps) -> np.ndarray:
    with torch.inference_mode():
        logits = network.head.logits([level[None].float() for level in maps.levels])[0]
    inside = tuple(slice(start, start + side) for start, side in zip(maps.before, maps.shape, strict=True))
    return torch.softmax(logits[0].float(), dim=0).numpy()[(slice(None), *inside)]


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that rounding does not hide other differences."""
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)


@pytest.mark.parametrize("shape", [(20, 21, 22), (8, 40, 17), (5, 6, 7)])
def test_a_voxelwise_network_gives_its_softmax_everywhere(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    found = class_probabilities(Voxelwise(), image, (16, 16, 16), CPU)
    exponents = np.exp(np.stack([np.zeros(shape), image[0], -image[0]]))
    assert found.shape == (3, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exponents / exponents.sum(axis=0), atol=5e-3)


@pytest.mark.parametrize(
    ("tokens", "cut", "block", "slab_bytes", "slabs"),
    [
        ((5, 3, 4), (0, 0, 0), 12, 400_000_000, [32]),
        ((5, 3, 9), (0, 0, 0), 2, 400_000_000, [64, 8]),
        ((5, 3, 12), (3, 4, 5), 3, 100_000, [59, 16, 11]),
        ((3, 2, 11), (11, 0, 0), 1, 1, [64, 8, 8, 8]),
        ((3, 2, 20), (0, 0, 70), 12, 400_000_000, [20]),  # whole slabs of added voxels on both sides
    ],
)
def test_blocks_and_slabs_do_not_change_the_result(
    network, tokens, cut, block, slab_bytes, slabs, monkeypatch, in_float32
):
    monkeypatch.setattr(module, "BLOCK_TOKENS", block)
    monkeypatch.setattr(module, "SLAB_BYTES", slab_bytes)
    maps = maps_of(network, tokens, cut)
    parts = list(class_slabs(network, maps, CPU))
    assert [part.end - part.start for part in parts] == slabs
    found = np.concatenate([part.probabilities() for part in parts], axis=-1)
    expected = all_at_once(network, maps)
    assert found.shape == expected.shape == (5, *maps.shape)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert len(np.unique(expected.argmax(axis=0))) == 5


def test_slabs_follow_each_other_and_are_thin(network):
    maps = maps_of(network, (3, 2, 19), (2, 2, 2))
    at = 0
    numbers = []
    for slab in class_slabs(network, maps, CPU):
        assert slab.start == at
        assert slab.sums.shape[:3] == (5, 20, 12)
        planes = slab.end - slab.start
        assert 0 < planes <= 8 * TOKEN
        assert slab.sums.untyped_storage().nbytes() == 5 * 20 * 12 * planes * 2, "one slab, in half precision"
        np.testing.assert_allclose(slab.probabilities().sum(axis=0, dtype=np.float32), 1, atol=5e-3)
        numbers.append(slab.winners()[0])
        at = slab.end
    assert at == 19 * TOKEN - 4
    assert len(numbers) == 3
    expected = all_at_once(network, maps).argmax(axis=0)
    assert np.mean(np.concatenate(numbers, axis=-1) != expected) < 1e-2, "equal but for ties within rounding"


def test_many_classes_have_thinner_slabs(monkeypatch):
    """The first one, of which nobody knows how many classes there are, apart."""

    class Many(Voxelwise):
        def logits(self, maps):
            return [maps[0].expand(-1, 200, -1, -1, -1)]

    monkeypatch.setattr(module, "SLAB_BYTES", 2 * 200 * 16 * 16 * 20)
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 96)).astype(np.float32)
    slabs = [slab.end - slab.start for slab in class_slabs(Many(), scan_maps(Many(), image, (16, 16, 16), CPU), CPU)]
    assert slabs == [64, 16, 16]


def test_in_bfloat16_the_result_is_close(network, monkeypatch):
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: True)
    maps = maps_of(network, (3, 3, 3))
    found = np.concatenate([slab.probabilities() for slab in class_slabs(network, maps, CPU)], axis=-1)
    exact = all_at_once(network, maps)
    with torch.autocast("cpu", torch.bfloat16):
        usual = all_at_once(network, maps)
    assert 0 < np.abs(found - exact).mean() < 1.5 * np.abs(usual - exact).mean() + 1e-3


@pytest.mark.parametrize("classes", [1, 52, 255])
def test_the_winner_is_the_most_probable_class_and_of_equal_ones_the_first(classes):
    generator = torch.Generator().manual_seed(classes)
    sums = torch.rand((classes, 9, 7, 6), generator=generator).half()
    sums[:, 0] = sums[:1, 0]  # all equal
    sums[-1, 1] = 8.0  # more than a weight of one
    weights = torch.rand((9, 7, 4), generator=generator) + 0.5
    # As it may come: some planes of a larger array.
    numbers, largest = Slab(0, sums[..., 1:5], weights).winners()
    expected = sums[..., 1:5].numpy()
    np.testing.assert_array_equal(numbers, expected.argmax(axis=0))
    np.testing.assert_allclose(largest, expected.max(axis=0) / weights.numpy(), rtol=2e-3)


def test_the_network_is_not_run_again_for_the_classes():
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 80)).astype(np.float32)
    counted = Counted(Voxelwise())
    slabs = list(class_slabs(counted, scan_maps(counted, image, (16, 16, 16), CPU), CPU))
    assert len(slabs) == 2
    assert counted.seen == 9


def test_each_block_can_stop_the_run(network, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_TOKENS", 1)
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(class_slabs(network, maps_of(network, (3, 3, 3)), CPU, on_block=stop))
    assert len(seen) == 3
