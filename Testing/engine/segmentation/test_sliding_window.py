"""Windows: the same as MONAI's, in little memory, and the network sees only those that hold something."""

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from glmae.backbone.presets import BackboneConfig
from glmae.devices import autocast
from glmae.segmentation.network import SegmentationNetwork
from glmae.segmentation.sliding_window import Slab, class_probabilities, probability_slabs

CPU = torch.device("cpu")


class Counted(nn.Module):
    """Counts the windows that a network is given; what runs it may run a copy, which counts here, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen = 0

    def __deepcopy__(self, memo: dict) -> "Counted":
        return self

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        self.seen += len(x)
        return list(self.network(x))


class Voxelwise(nn.Module):
    """Logits that depend on each voxel alone, so that windows cannot change the result."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat([torch.zeros_like(x), x, -x], dim=1)]


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    """Random weights, but all the parts that a real one has."""
    torch.manual_seed(3)
    config = BackboneConfig(
        name="test", channels=1, patch_size=(8, 8, 8), width=48, depth=2, heads=2, grid=(4, 4, 4),
        global_view=64, local_view=32, decoder_width=48, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    network = SegmentationNetwork(config, classes=4).eval()
    with torch.no_grad():
        network.head.output.weight.mul_(10)  # sure of itself, as a trained one is
    return network


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """[1, 28, 20, 44]: a rough body of a quarter in the air."""
    i, j, k = np.indices((28, 20, 44))
    body = ((i - 13) / 12) ** 2 + ((j - 9) / 9) ** 2 + ((k - 10) / 10) ** 2 < 1
    rough = np.random.default_rng(0).normal(size=(7, 5, 11)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    return np.where(body, rough, -2.5).astype(np.float32)[None]


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that rounding does not hide other differences."""
    monkeypatch.setattr("glmae.devices._cpu_multiplies_bfloat16", lambda: False)


def by_monai(network: nn.Module, image: np.ndarray, patch: tuple[int, int, int]) -> np.ndarray:
    with torch.inference_mode():
        found = sliding_window_inference(
            torch.from_numpy(image)[None],
            patch,
            1,
            lambda window: torch.softmax(network(window)[0], dim=1),
            overlap=0.5,
            mode="gaussian",
            padding_mode="replicate",
        )
    return found[0].numpy()


def dice(one: np.ndarray, two: np.ndarray, classes: int) -> float:
    masks = [(one == number, two == number) for number in range(1, classes + 1)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in masks if a.any() or b.any()]))


@pytest.mark.parametrize("shape", [(20, 21, 22), (8, 40, 17), (5, 6, 7)])
def test_a_voxelwise_network_gives_its_softmax_everywhere(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    found = class_probabilities(Voxelwise(), image, (16, 16, 16), CPU)
    exponents = np.exp(np.stack([np.zeros(shape), image[0], -image[0]]))
    assert found.shape == (3, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exponents / exponents.sum(axis=0), atol=5e-3)


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 32, 24)])
def test_the_result_is_that_of_monai(network, scan, patch, in_float32):
    """Empty windows, a scan that is thinner than a window, a last window that is moved back."""
    expected = by_monai(network, scan, patch)
    counted = Counted(network)
    found = class_probabilities(counted, scan, patch, CPU)
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert dice(found.argmax(axis=0), expected.argmax(axis=0), 4) > 0.999
    assert len(np.unique(expected.argmax(axis=0))) == 5
    everything = Counted(network)
    by_monai(everything, scan, patch)
    assert 0 < counted.seen < 0.8 * everything.seen, "not the empty ones"


def test_the_order_of_memory_costs_no_precision(network, scan):
    """In the precision of the device, ours is as close to float32 as MONAI's sliding window is."""
    exact = by_monai(network, scan, (16, 16, 16))
    with autocast(CPU):
        usual = by_monai(network, scan, (16, 16, 16))
    found = class_probabilities(network, scan, (16, 16, 16), CPU)
    assert np.abs(found - exact).mean() < 1.5 * np.abs(usual - exact).mean() + 1e-3


def test_slabs_follow_each_other_and_are_thin(network, scan):
    at = 0
    numbers = []
    for slab in probability_slabs(network, scan, (16, 16, 16), CPU):
        assert slab.start == at
        assert slab.sums.shape[:3] == (5, 28, 20)
        assert slab.end - slab.start <= 16
        assert slab.sums.untyped_storage().nbytes() == 5 * 28 * 20 * 16 * 2, "one slab, in half precision"
        np.testing.assert_allclose(slab.probabilities().sum(axis=0, dtype=np.float32), 1, atol=5e-3)
        numbers.append(slab.winners()[0])
        at = slab.end
    assert at == 44
    whole = class_probabilities(network, scan, (16, 16, 16), CPU).argmax(axis=0)
    assert np.mean(np.concatenate(numbers, axis=-1) != whole) < 1e-2, "equal but for ties within rounding"


@pytest.mark.parametrize("classes", [1, 52, 255])
def test_the_winner_is_the_most_probable_class_and_of_equal_ones_the_first(classes):
    generator = torch.Generator().manual_seed(classes)
    sums = torch.rand((classes, 9, 7, 6), generator=generator).half()
    sums[:, 0] = sums[:1, 0]  # all equal
    sums[-1, 1] = 8.0  # more than one window's weight
    weights = torch.rand((9, 7, 4), generator=generator) + 0.5
    # As it comes: some planes of a larger array.
    numbers, largest = Slab(0, sums[..., 1:5], weights).winners()
    expected = sums[..., 1:5].numpy()
    np.testing.assert_array_equal(numbers, expected.argmax(axis=0))
    np.testing.assert_allclose(largest, expected.max(axis=0) / weights.numpy(), rtol=2e-3)


def test_several_windows_at_once_change_nothing(network, scan, in_float32):
    found = [
        np.concatenate([s.winners()[0] for s in probability_slabs(network, scan, (16, 16, 16), CPU, windows=n)], -1)
        for n in (1, 5)
    ]
    assert found[0].shape == (28, 20, 44)
    assert np.mean(found[0] != found[1]) < 1e-3


def test_constant_windows_are_run_once():
    network = Counted(Voxelwise())
    image = np.full((1, 64, 64, 64), -3.0, dtype=np.float32)
    image[:, 60:, 60:, 60:] = 1
    found = class_probabilities(network, image, (16, 16, 16), CPU)
    assert network.seen == 2, "one that is empty, one that is not"
    np.testing.assert_allclose(found[1, 63, 63, 63], np.exp(1) / (1 + np.exp(1) + np.exp(-1)), atol=2e-3)
    np.testing.assert_allclose(found[2, 0, 0, 0], np.exp(3) / (1 + np.exp(3) + np.exp(-3)), atol=2e-3)


def test_noisy_air_is_air():
    image = np.random.default_rng(0).uniform(-3, -2.8, size=(1, 40, 40, 40)).astype(np.float32)
    image[:, 20, 20, 20] = 2.0
    for air, at_most in ((None, 64), (-2.7, 9)):
        network = Counted(Voxelwise())
        slabs = list(probability_slabs(network, image, (16, 16, 16), CPU, air=[air]))
        assert slabs[-1].end == 40
        assert 0 < network.seen <= at_most
    assert network.seen < 64


def test_each_window_can_stop_the_run():
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        class_probabilities(Voxelwise(), np.zeros((1, 64, 64, 64)), (16, 16, 16), CPU, on_window=stop)
    assert len(seen) == 3
