import json

import pytest

from glmae.errors import RequestError
from glmae.pretraining.configuration import SPREAD, LossWeights, PretrainConfig, planned_config, pretrain_config


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_round_trip_through_json(name):
    config = pretrain_config(name, channels=2, seed=5, weights=LossWeights(global_local=0.3))
    assert PretrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_terms_that_are_off_need_no_views_and_no_teacher():
    off = {"local_reconstruction": 0, "global_reconstruction": 0, "global_global": 0, "global_local": 0}
    uses = {
        name: (config.uses_teacher, config.masks_globals, config.masks_locals)
        for name in off
        for config in [pretrain_config(weights=LossWeights(**(off | {name: 1.0})))]
    }
    assert uses == {
        "local_reconstruction": (False, False, True),
        "global_reconstruction": (False, True, False),
        "global_global": (True, True, False),
        "global_local": (True, False, True),
    }


def test_settings_change_single_fields_and_single_weights():
    changed = pretrain_config().changed({"mask_ratio": 0.75, "weights": {"global_global": 0}})
    assert (changed.mask_ratio, changed.weights) == (0.75, LossWeights(global_global=0))
    with pytest.raises(RequestError, match="no setting 'ratio'"):
        pretrain_config().changed({"ratio": 0.5})
    with pytest.raises(RequestError, match="no setting 'global'"):
        pretrain_config().changed({"weights": {"global": 1}})
    with pytest.raises(RequestError, match="wrong value"):
        pretrain_config().changed({"weights": {"global_global": "much"}})
    with pytest.raises(RequestError, match="wrong value"):
        pretrain_config().changed({"weights": 3})


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_every_preset_has_the_papers_four_terms_and_no_more(name):
    weights = pretrain_config(name).weights
    paper = (weights.local_reconstruction, weights.global_reconstruction, weights.global_global, weights.global_local)
    assert min(paper) > 0
    assert weights.spread == 0


def test_a_gpu_gets_a_batch_of_many_and_such_batches_are_kept_apart():
    cpu, gpu = (planned_config("tiny", device, {}) for device in ("cpu", "cuda"))
    assert (cpu.batch, cpu.weights.spread) == (2, 0)
    assert (gpu.batch, gpu.weights.spread) == (32, SPREAD)
    assert planned_config("tiny", "cuda", {"batch": 4}) == planned_config("tiny", "cpu", {"batch": 4})
    many = planned_config("base", "cpu", {"batch": 64, "weights": {"global_local": 0.3}}).weights
    assert (many.spread, many.global_local) == (SPREAD, 0.3)
    assert planned_config("tiny", "cuda", {"weights": {"spread": 0.0}}).weights.spread == 0
    two = planned_config("small", "cpu", {}, channels=2, seed=3)
    assert (two.backbone.channels, two.seed) == (2, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": 1.0},
        {"mask_ratio": 0.0},
        {"batch": 0},
        {"global_views": 0},
        {"output": "both"},
        {"weights": LossWeights(global_local=-1)},
        {"weights": LossWeights(local_reconstruction=0, global_reconstruction=0, global_global=0, global_local=0)},
    ],
)
def test_what_cannot_work_is_refused(changes):
    with pytest.raises(RequestError):
        pretrain_config(**changes)
