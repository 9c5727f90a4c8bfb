"""The configuration of fine-tuning: crops that fit, and a round trip through JSON."""

import json
import math

import pytest

from glmae.errors import RequestError
from glmae.segmentation.finetune_config import FinetuneConfig, plan_crop


@pytest.mark.parametrize(
    ("shapes", "token", "expected"),
    [
        ([(35, 50, 36)], (8, 8, 8), (40, 56, 40)),  # the whole scan, rounded up
        ([(256, 256, 256)], (8, 8, 8), (64, 64, 64)),  # a cube
        ([(200, 200, 20)], (8, 8, 8), (104, 104, 24)),  # a slab stays a slab
        ([(10, 10, 10)], (16, 16, 16), (32, 32, 32)),  # two tokens at least
        ([(300, 10, 10), (30, 30, 30), (40, 40, 40)], (8, 8, 8), (40, 32, 32)),  # the median side
    ],
)
def test_the_crop_is_the_scan_or_as_much_as_fits(shapes, token, expected):
    crop = plan_crop(shapes, token, 64**3)
    assert crop == expected
    assert math.prod(crop) <= 64**3
    assert all(side % unit == 0 for side, unit in zip(crop, token, strict=True))


def test_json_round_trip():
    config = FinetuneConfig(crop=(32, 40, 48), rate=0.1, seed=9)
    content = json.loads(json.dumps(config.to_json())) | {"of a later version": 1}
    assert FinetuneConfig.from_json(content) == config


def test_settings_are_checked():
    config = FinetuneConfig(crop=(16, 16, 16))
    changed = config.changed({"crop": [32, 40, 32], "rate": 0.5, "augmentation": {"elastic": 0.0}})
    assert (changed.crop, changed.rate, changed.augmentation.elastic) == ((32, 40, 32), 0.5, 0.0)
    assert changed.augmentation.rotation == config.augmentation.rotation
    for wrong in ({"speed": 9}, {"head": "none"}, {"preset": "huge"}, {"crop": 3}, {"augmentation": {"x": 1}}):
        with pytest.raises(RequestError):
            config.changed(wrong)
