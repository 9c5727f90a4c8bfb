import json
from math import prod

import pytest

from glmae.backbone.presets import PRESETS, BackboneConfig, preset
from glmae.errors import RequestError


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name):
    config = preset(name, channels=3)
    assert BackboneConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_views_and_widths_divide(name):
    config = preset(name)
    for side in config.patch_size:
        assert config.global_view % side == 0
        assert config.local_view % side == 0
    assert config.width % config.heads == 0
    assert config.decoder_width % config.decoder_heads == 0


def test_base_is_the_published_network():
    base = preset("base")
    assert (base.width, base.depth, base.heads, base.patch_size) == (768, 12, 12, (16, 16, 16))
    assert (base.global_view, base.local_view, prod(base.grid) + 1) == (160, 96, 217)
    assert (base.decoder_width, base.decoder_depth, base.decoder_heads) == (512, 8, 16)


def test_unknown_preset_is_refused():
    with pytest.raises(RequestError, match=r"huge.*tiny, small, base"):
        preset("huge")


def test_fields_of_a_later_version_are_passed_over():
    assert BackboneConfig.from_json(preset("tiny").to_json() | {"registers": 4}) == preset("tiny")
