"""Maps of a whole scan: joined as MONAI joins windows, and the network sees only windows that hold something."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from voxelwise import Counted, Voxelwise

from glmae.backbone.presets import BackboneConfig
from glmae.segmentation.network import ScanMaps, SegmentationNetwork
from glmae.segmentation.scan_maps import scan_maps

CPU = torch.device("cpu")
PATCHES = [(16, 16, 16), (16, 32, 48)]


class Centered(Voxelwise):
    """Two maps, one of which depends on the window that a voxel is seen in."""

    def maps(self, x: Tensor) -> list[Tensor]:
        return [torch.cat([x, x - x.mean(dim=(2, 3, 4), keepdim=True)], dim=1)]


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    """Random weights, but all the parts that a real one has."""
    torch.manual_seed(3)
    config = BackboneConfig(
        name="test", channels=1, patch_size=(8, 8, 8), width=48, depth=2, heads=2, grid=(4, 4, 4),
        global_view=64, local_view=32, decoder_width=48, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    return SegmentationNetwork(config, classes=4).eval()


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """[1, 32, 24, 48], whole tokens: a rough body of a quarter in the air."""
    i, j, k = np.indices((32, 24, 48))
    body = ((i - 13) / 12) ** 2 + ((j - 9) / 9) ** 2 + ((k - 10) / 10) ** 2 < 1
    rough = np.random.default_rng(0).normal(size=(8, 6, 12)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    return np.where(body, rough, -2.5).astype(np.float32)[None]


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that rounding does not hide other differences."""
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)


def of_window(network: nn.Module, image: np.ndarray, window: tuple[slice, ...]) -> list[np.ndarray]:
    with torch.inference_mode():
        found = network.maps(torch.from_numpy(image[(slice(None), *window)].copy())[None])
    return [level[0].double().numpy() for level in found]


def joined_by_definition(network: nn.Module, image: np.ndarray, crop: tuple[int, int, int]) -> list[np.ndarray]:
    """In float64, each window where MONAI has it; a place of a window weighs as its voxels do on average."""
    bells = [np.exp(-(((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) / 2) for side in crop]
    importance = np.maximum(np.einsum("i,j,k->ijk", *bells), 1e-3)
    sums: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for window in dense_patch_slices(image.shape[1:], crop, [side // 2 for side in crop]):
        for number, level in enumerate(of_window(network, image, window)):
            a, b, c = (side // places for side, places in zip(crop, level.shape[1:], strict=True))
            if number == len(sums):
                size = [side // stride for side, stride in zip(image.shape[1:], (a, b, c), strict=True)]
                sums.append(np.zeros((len(level), *size)))
                weights.append(np.zeros(size))
            i, j, k = level.shape[1:]
            share = importance.reshape(i, a, j, b, k, c).mean(axis=(1, 3, 5))
            at = tuple(slice(w.start // stride, w.stop // stride) for w, stride in zip(window, (a, b, c), strict=True))
            sums[number][(slice(None), *at)] += share * level
            weights[number][at] += share
    return [one / two for one, two in zip(sums, weights, strict=True)]


@pytest.mark.parametrize("crop", PATCHES)
def test_maps_of_voxels_are_joined_as_by_monai(scan, crop, in_float32):
    network = Centered()
    with torch.inference_mode():
        expected = sliding_window_inference(
            torch.from_numpy(scan)[None], crop, 1, lambda x: network.maps(x)[0],
            overlap=0.5, mode="gaussian", padding_mode="replicate",
        )  # fmt: skip
    found = scan_maps(network, scan, crop, CPU)
    assert found.strides == ((1, 1, 1),)
    inside = tuple(slice(start, start + side) for start, side in zip(found.before, found.shape, strict=True))
    ours = found.levels[0].float().numpy()[(slice(None), *inside)]
    np.testing.assert_allclose(ours, expected[0].numpy(), atol=2e-3)
    assert np.ptp(ours[0] - ours[1]) > 0.1, "windows differ"


@pytest.mark.parametrize("crop", [(16, 16, 16), (16, 24, 32)])
def test_all_levels_of_a_network_are_joined_by_the_definition(network, scan, crop, in_float32):
    """The empty windows, which it runs once, have the maps that they would have each."""
    # Half of 24 is no whole token, but along that axis there is one window only, as there is for MONAI.
    counted = Counted(network)
    found = scan_maps(counted, scan, crop, CPU)
    expected = joined_by_definition(network, scan, crop)
    assert found.strides == ((2, 2, 2), (4, 4, 4), (8, 8, 8))
    assert [len(level) for level in found.levels] == [sum(widths) for widths in network.head.widths]
    for level, exact in zip(found.levels, expected, strict=True):
        assert level.dtype == torch.float16
        assert level.shape == exact.shape
        np.testing.assert_allclose(level.float().numpy(), exact, atol=5e-3 * float(np.abs(exact).max()))
    windows = len(dense_patch_slices(scan.shape[1:], crop, [side // 2 for side in crop]))
    assert 0 < counted.seen <= windows
    if crop == (16, 16, 16):
        assert counted.seen < 0.8 * windows, "not the empty ones"


def test_the_order_of_memory_costs_no_precision(network, scan, monkeypatch):
    """In bfloat16 the faster order of memory is as close to float32 as the network itself is under autocast."""
    crop = (16, 16, 16)
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: True)
    found = scan_maps(network, scan, crop, CPU)
    exact = joined_by_definition(network, scan, crop)
    with torch.autocast("cpu", torch.bfloat16):
        usual = joined_by_definition(network, scan, crop)
    for ours, others, level in zip(found.levels, usual, exact, strict=True):
        error = np.abs(ours.float().numpy() - level).mean()
        assert 0 < error < 1.5 * np.abs(others - level).mean() + 1e-3


@pytest.mark.parametrize("shape", [(20, 21, 22), (8, 40, 17), (5, 6, 7)])
def test_scans_of_any_shape_go_on_with_their_border(shape):
    """Thinner than a window, and no multiples of the token patch."""
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    found = scan_maps(Voxelwise(), image, (16, 16, 16), CPU)
    assert found.shape == shape
    wanted = [max(16, math.ceil(side / 8) * 8) for side in shape]
    assert list(found.levels[0].shape[1:]) == wanted
    after = [size - side - start for size, side, start in zip(wanted, shape, found.before, strict=True)]
    expected = np.pad(image, [(0, 0), *zip(found.before, after, strict=True)], mode="edge")
    np.testing.assert_allclose(found.levels[0].float().numpy(), expected, atol=5e-3)
    assert all(abs(one - two) <= 1 for one, two in zip(found.before, after, strict=True)), "in the middle"


def test_windows_lie_on_whole_tokens_whatever_half_of_a_window_is(scan):
    seen = []

    class Watching(Voxelwise):
        def maps(self, x: Tensor) -> list[Tensor]:
            seen.extend(window[0, 0, 0, 0].item() for window in x)
            return [x]

    i = np.indices((56, 24, 24))[0]
    found = scan_maps(Watching(), i[None].astype(np.float32), (24, 24, 24), CPU, windows=1)
    assert seen == [0, 8, 16, 24, 32], "half of 24 is 12: a step of one token of 8"
    np.testing.assert_allclose(found.levels[0][0].float().numpy(), i, atol=0.05)


def test_several_windows_at_once_change_nothing(network, scan, in_float32):
    one, five = (scan_maps(network, scan, (16, 16, 16), CPU, windows=count) for count in (1, 5))
    for few, many in zip(one.levels, five.levels, strict=True):
        assert (few.float() - many.float()).abs().max() < 2e-3 * few.float().abs().max()


def test_what_is_kept_is_in_half_precision(network, scan):
    found = scan_maps(network, scan, (16, 16, 16), CPU)
    places = [16 * 12 * 24, 8 * 6 * 12, 4 * 3 * 6]
    assert found.nbytes == sum(2 * n * sum(w) for n, w in zip(places, network.head.widths, strict=True))
    assert isinstance(found, ScanMaps)


def test_constant_windows_are_run_once():
    network = Counted(Voxelwise())
    image = np.full((1, 64, 64, 64), -3.0, dtype=np.float32)
    image[:, 60:, 60:, 60:] = 1
    found = scan_maps(network, image, (16, 16, 16), CPU)
    assert network.seen == 2, "one that is empty, one that is not"
    np.testing.assert_allclose(found.levels[0].float().numpy(), image, atol=2e-3)


def test_noisy_air_is_air():
    image = np.random.default_rng(0).uniform(-3, -2.8, size=(1, 40, 40, 40)).astype(np.float32)
    image[:, 20, 20, 20] = 2.0
    for air, at_most in ((None, 64), (-2.7, 9)):
        network = Counted(Voxelwise())
        found = scan_maps(network, image, (16, 16, 16), CPU, air=[air])
        assert found.levels[0].shape == (1, 40, 40, 40)
        assert found.levels[0][0, 20, 20, 20] == 2
        assert 0 < network.seen <= at_most
    assert network.seen < 64


def test_each_window_can_stop_the_run():
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        scan_maps(Voxelwise(), np.zeros((1, 64, 64, 64)), (16, 16, 16), CPU, on_window=stop)
    assert len(seen) == 3
