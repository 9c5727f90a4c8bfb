"""A model that finds nothing, or one thing everywhere, is named as failed; one that works is not."""

from __future__ import annotations

import pytest
import torch

from glmae.errors import Stopped
from glmae.scans.cases import find_cases
from glmae.scans.measurement import measure
from glmae.scans.preparation import plan_preparation
from glmae.scans.store import ScanStore
from glmae.schedule import Schedule
from glmae.segmentation.crops import LabeledScan
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.labeled_cases import LabeledCases, TrainingCheck, check_training
from glmae.segmentation.model import load_model
from glmae.segmentation.training import Training

CPU = torch.device("cpu")


@pytest.fixture
def labeled(sample_scans, tmp_path):
    names = ["hippocampus_039", "hippocampus_207"]
    cases, table = find_cases(sample_scans / "images", sample_scans / "labels", names)
    preparation = plan_preparation(measure(cases, table), 128**3)
    store = ScanStore.prepare(tmp_path / "scans", cases, preparation, table)
    return LabeledCases(cases, store, table, preparation)


@pytest.fixture
def training(labeled, trained_model):
    store, model = labeled.store, load_model(trained_model, CPU)
    label = store.label(0)
    assert label is not None
    scan = LabeledScan(store.image(0), label, store.annotated(0), (1.0, 1.0, 1.0))
    config = FinetuneConfig(crop=model.config.crop)
    return Training(model.network, config, [scan], Schedule(1), CPU)


def biased(training: Training, biases: dict[int, float]) -> Training:
    """The real network with the bias of some classes pushed up or down."""
    with torch.no_grad():
        for number, bias in biases.items():
            training.network.head.output.bias[number] += bias
    return training


def never() -> bool:
    return False


def test_a_model_that_works_is_not_called_failed(labeled, training):
    assert check_training(labeled, training, 0, None, never) == TrainingCheck()
    scores = labeled.score([0, 1], training, [True, True], None, never)
    assert [score.case for score in scores] == ["0", "0", "1", "1"]
    assert all(score.dice is not None and score.dice > 0.2 for score in scores)
    assert all(score.hd95_mm is None for score in scores), "of a whole large scan they need gigabytes"


@pytest.mark.parametrize(
    ("biases", "said"),
    [
        ({0: 100.0}, "finds nothing"),
        ({1: 100.0}, "takes the whole of a scan for 'hippocampus anterior'"),
        ({2: -100.0}, "failed for 'hippocampus posterior': not found"),
    ],
)
def test_constant_output_is_named_with_a_remedy(biases, said, labeled, training):
    failure = check_training(labeled, biased(training, biases), 0, None, never).failure
    assert failure is not None
    assert failure.startswith("training failed")
    assert said in failure
    assert "--minutes" in failure


def without_memory() -> bool:
    raise MemoryError


@pytest.mark.parametrize(
    ("deadline", "should_stop", "said"),
    [(0.0, never, "time was too short"), (None, without_memory, "not enough memory")],
)
def test_without_time_or_memory_nothing_is_claimed_and_that_is_said(deadline, should_stop, said, labeled, training):
    check = check_training(labeled, biased(training, {0: 100.0}), 0, deadline, should_stop)
    assert check.failure is None
    assert check.not_checked is not None
    assert said in check.not_checked


def test_stopping_is_passed_on(labeled, training):
    with pytest.raises(Stopped):
        check_training(labeled, training, 0, None, lambda: True)
