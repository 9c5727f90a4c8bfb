"""The benchmark of test-time flips: flips are undone, and left and right change places with them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def flips(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module("flips")


class Thresholds(nn.Module):
    """Voxel by voxel: background, and two structures by intensity; what it gives for a voxel knows no neighbour."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.cat([0 * x, x, -x], 1)]


class Sides(nn.Module):
    """Background, and two structures: one on the low half of the first axis, one on the high half."""

    def forward(self, x: Tensor) -> list[Tensor]:
        place = torch.linspace(-1, 1, x.shape[2])[:, None, None].expand(x.shape[2:])[None, None]
        return [torch.cat([0 * x, x - place, x + place], 1)]


def test_a_network_that_knows_no_place_gives_the_same(flips):
    x = torch.randn(2, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    plain = Thresholds()(x)[0].softmax(1)
    for axes in ((3, 4), (2,), (2, 3, 4)):
        flipped = flips.FlippedNetwork(Thresholds(), axes, [0, 1, 2])
        assert torch.allclose(flipped(x)[0].exp(), plain, atol=1e-5)
        assert len(flipped.flips) == 2 ** len(axes)


def test_left_and_right_change_places(flips):
    x = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    plain = Sides()(x)[0].softmax(1)
    assert torch.allclose(flips.FlippedNetwork(Sides(), (2,), [0, 2, 1])(x)[0].exp(), plain, atol=1e-5)
    assert not torch.allclose(flips.FlippedNetwork(Sides(), (2,), [0, 1, 2])(x)[0].exp(), plain, atol=1e-2)


def test_the_other_side_is_found_by_name(flips):
    assert flips.mirrored_channels(["liver", "left kidney", "right kidney", "left lung"]) == [0, 1, 3, 2, 4]
