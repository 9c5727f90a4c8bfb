"""Batches made in advance are those that would be made in time."""

import itertools
import threading

import numpy as np
import pytest
import torch

from glmae.segmentation.crops import CropSampler, LabeledScan
from glmae.segmentation.finetune_config import AugmentationConfig
from glmae.side_streams import batches_ahead

CPU = torch.device("cpu")
EVERYTHING = AugmentationConfig(spatial=1, elastic=1, intensity=1)


def sampler(device: str = "cpu") -> CropSampler:
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 30, 30, 30)).astype(np.float32)
    label = np.zeros((30, 30, 30), np.uint8)
    label[5:20, 5:20, 5:20] = 1
    scan = LabeledScan(image, label, (True,), (1.0, 1.0, 1.0))
    return CropSampler([scan], (16, 16, 16), 2, 0.67, EVERYTHING, 0, device=torch.device(device))


def test_threads_change_nothing_in_the_batches():
    in_time, ahead = sampler(), batches_ahead(sampler().batch, itertools.count(3), CPU, threads=4)
    for step in range(3, 11):
        expected, made = in_time.batch(step), next(ahead)
        assert torch.equal(made.image, expected.image)
        assert torch.equal(made.target, expected.target)


def test_the_next_batches_are_being_made_while_one_is_used():
    begun = {step: threading.Event() for step in range(20)}

    def make(step):
        begun[step].set()
        return step

    ahead = batches_ahead(make, itertools.count(), CPU, threads=2)
    assert next(ahead) == 0
    assert begun[1].wait(10)
    assert begun[2].wait(10)
    assert not begun[10].is_set()


def test_an_error_comes_with_its_step():
    def make(step):
        if step == 1:
            raise OSError("the store is gone")
        return step

    ahead = batches_ahead(make, itertools.count(), CPU, threads=2)
    assert next(ahead) == 0
    with pytest.raises(OSError, match="gone"):
        next(ahead)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_streams_of_a_gpu_change_nothing_in_the_batches():
    in_time = sampler("cuda")
    ahead = batches_ahead(sampler("cuda").batch, itertools.count(), torch.device("cuda"), threads=4)
    for step in range(30):
        expected, made = in_time.batch(step), next(ahead)
        busy = torch.randn(2000, 2000, device="cuda") @ torch.randn(2000, 2000, device="cuda")
        torch.testing.assert_close(made.image + 0 * busy[0, 0], expected.image)
        assert torch.equal(made.target, expected.target)
