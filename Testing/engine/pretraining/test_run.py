"""One step of pre-training, and what a run on a GPU must not do."""

import pytest
import torch
from sample_scans import sample_scans, small_config

from glmae.events import silent
from glmae.pretraining.configuration import LossWeights
from glmae.pretraining.ranks import Ranks
from glmae.pretraining.run import COLUMNS, Run
from glmae.pretraining.views import read_neighbourhoods
from glmae.schedule import Schedule


def started(config, device="cpu"):
    run = Run(
        config,
        torch.device(device),
        Schedule(20, None),
        checkpoint=None,
        ranks=Ranks(),
        events=silent(),
    )
    run.model.train()
    return run


def test_losses_are_kept_until_they_are_read():
    config = small_config()
    run = started(config)
    for step in range(2):
        run.step(read_neighbourhoods(config, sample_scans(), step), run.pace())
    assert run.history == []
    run.read_losses()
    assert [row[0] for row in run.history] == [1, 2]
    assert all(len(row) == len(COLUMNS) for row in run.history)
    run.read_losses()
    assert len(run.history) == 2


def test_a_decoder_without_a_task_is_left_alone():
    weights = LossWeights(local_reconstruction=0, global_reconstruction=0)
    config = small_config(weights=weights)
    run = started(config)
    before = {name: tensor.clone() for name, tensor in run.model.decoder.state_dict().items()}
    run.step(read_neighbourhoods(config, sample_scans(), 0), run.pace())
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.decoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in run.model.decoder.parameters())


def test_a_share_of_the_batch_is_those_volumes():
    config = small_config(batch=4)
    whole = read_neighbourhoods(config, sample_scans(), 3)
    part = read_neighbourhoods(config, sample_scans(), 3, range(1, 3))
    assert torch.equal(part.global_boxes, whole.global_boxes[1:3])
    assert torch.equal(part.local_jitter, whole.local_jitter[1:3])
    sides = part.regions.shape[2:]
    assert torch.equal(part.regions, whole.regions[1:3, :, : sides[0], : sides[1], : sides[2]])
    drawn = [torch.rand(5, generator=generator) for generator in part.generators]
    expected = [torch.rand(5, generator=generator) for generator in whole.generators[1:3]]
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_no_step_waits_for_the_gpu():
    config = small_config()
    run = started(config, "cuda")
    batches = [read_neighbourhoods(config, sample_scans(), step).pinned() for step in range(4)]
    for batch in batches[:2]:  # tables and moments are made in the first steps
        run.step(batch, run.pace())
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[2:]:
            run.step(batch, run.pace())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.read_losses()
    assert len(run.history) == 4
