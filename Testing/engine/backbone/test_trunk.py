"""The convolutional trunk: its maps, and that its pre-trained weights are taken whole or not at all."""

from dataclasses import replace

import pytest
import torch

from glmae.backbone.presets import preset
from glmae.backbone.trunk import Trunk
from glmae.backbone.vision_transformer import VisionTransformer
from glmae.backbone.weights import TRUNK, fitting_trunk
from glmae.events import Events


def trunk(channels=1, patch_size=(8, 8, 8)):
    return Trunk(channels, replace(preset("tiny", channels=channels), patch_size=patch_size))


def stored(source):
    return {TRUNK + name: tensor.half() for name, tensor in source.state_dict().items()}


@pytest.mark.parametrize("patch_size", [(8, 8, 8), (8, 8, 4)])
def test_maps_lie_on_the_tokens_and_on_the_sub_voxels(patch_size):
    backbone = VisionTransformer(replace(preset("tiny"), patch_size=patch_size))
    own = trunk(patch_size=patch_size)
    x = torch.randn(2, 1, 16, 24, 32)
    maps = own(x, backbone.features(x, own.after))
    grid = tuple(side // patch for side, patch in zip(x.shape[2:], patch_size, strict=True))
    half = tuple(side // part for side, part in zip(x.shape[2:], own.subvoxels, strict=True))
    assert maps.coarse.shape == (2, own.coarse_width, *grid)
    assert maps.fine.shape == (2, own.fine_width, *half)
    assert maps.entry.shape == maps.fine.shape
    # From the tokens to the finest one each is larger than the one before.
    assert [level.shape[1] for level in maps.between] == list(own.between_widths)
    sizes = [level.shape[2] for level in (maps.coarse, *maps.between, maps.fine)]
    assert sizes == sorted(set(sizes))


def test_weights_of_the_same_shape_are_taken():
    source, target = trunk(), trunk()
    found = fitting_trunk(stored(source) | {"cls_token": torch.zeros(1)}, target)
    assert found.keys() == target.state_dict().keys()
    target.load_state_dict(found)
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_more_channels_share_what_one_has_learned():
    source, target = trunk(), trunk(channels=3)
    target.load_state_dict(fitting_trunk(stored(source), target))
    x = torch.randn(1, 1, 16, 16, 16)
    first = source.encoders[0](x)
    torch.testing.assert_close(target.encoders[0](x.expand(-1, 3, -1, -1, -1)), first, atol=1e-2, rtol=1e-2)


def test_a_trunk_for_other_patches_starts_from_scratch_and_says_so():
    said = []
    found = fitting_trunk(stored(trunk()), trunk(patch_size=(16, 16, 16)), Events(said.append))
    assert found == {}
    assert "from scratch" in said[0]["message"]


def test_a_backbone_without_a_trunk_gives_none_and_needs_no_word():
    said = []
    assert fitting_trunk({"cls_token": torch.zeros(1)}, trunk(), Events(said.append)) == {}
    assert said == []
