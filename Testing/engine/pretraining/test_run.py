"""One step of pre-training, and what a run on a GPU must not do."""

import math

import pytest
import torch
from sample_scans import sample_scans, small_config

from glmae.pretraining.configuration import LossWeights
from glmae.pretraining.run import COLUMNS, Run
from glmae.pretraining.views import read_neighborhoods
from glmae.schedule import Schedule


def started(config, device="cpu"):
    run = Run(config, torch.device(device), Schedule(20, None), checkpoint=None)
    run.model.train()
    return run


def distance(one, other):
    """Of two lists of tensors, as if each were one vector."""
    return math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in zip(one, other, strict=True)))


def test_losses_are_kept_until_they_are_read():
    config = small_config()
    run = started(config)
    for step in range(2):
        run.step(read_neighborhoods(config, sample_scans(), step))
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
    run.step(read_neighborhoods(config, sample_scans(), 0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.decoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in run.model.decoder.parameters())


def test_weight_decay_shrinks_matrices_and_kernels_alone():
    """One step with it and one without: norms, biases and the learned tokens end alike."""
    ended = []
    for decay in (0.0, 0.5):
        config = small_config(weight_decay=decay, frozen_prototypes=0.0)
        run = started(config)
        learned = {name: each for name, each in run.model.named_parameters() if each.requires_grad}
        with torch.no_grad():
            for parameter in learned.values():
                parameter += 0.01  # biases start at zero, which no decay would change
        run.step(read_neighborhoods(config, sample_scans(), 0))
        ended.append(learned)
    single = {name for name, each in ended[0].items() if each.ndim == 1 or name.endswith(("cls_token", "mask_token"))}
    assert 2 < len(single) < len(ended[0])
    assert {name for name in ended[0] if torch.equal(ended[0][name], ended[1][name])} == single


def test_the_teacher_follows_more_and_more_slowly():
    """By 1 - momentum of the way in each step; the momentum rises from its start to one with a cosine."""
    config = small_config(ema_start=0.9)
    run = started(config)
    run.schedule.steps = 4
    model = run.model
    for step in range(4):
        before = [each.clone() for each in (*model.teacher.parameters(), *model.teacher_projector.parameters())]
        run.step(read_neighborhoods(config, sample_scans(), step))
        after = (*model.teacher.parameters(), *model.teacher_projector.parameters())
        student = (*model.student.parameters(), *model.student_projector.parameters())
        momentum = 1 - (1 - 0.9) * (1 + math.cos(math.pi * step / 4)) / 2
        assert distance(after, before) / distance(student, before) == pytest.approx(1 - momentum, rel=0.01)


def test_the_rate_warms_up_and_runs_down():
    config = small_config(warm_up=0.25)
    run = started(config)
    run.schedule.steps = 8
    batch = read_neighborhoods(config, sample_scans(), 0)
    for step in range(8):
        run.step(batch)
        place = (step + 0.5) / 8
        factor = place / 0.25 if place < 0.25 else 0.5 * (1 + math.cos(math.pi * (place - 0.25) / 0.75))
        assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([1e-3 * factor] * 2)


def test_gradients_are_clipped_and_of_one_batch():
    """The second step of a run that learns nothing has the gradients of a run that begins there."""
    config = small_config(learning_rate=0.0, clip=1e-3, weights=LossWeights(global_global=0, global_local=0))
    run, beginning = started(config), started(config)
    run.step(read_neighborhoods(config, sample_scans(), 0))
    for each in (run, beginning):
        each.step(read_neighborhoods(config, sample_scans(), 1))
    pairs = zip(run.model.parameters(), beginning.model.parameters(), strict=True)
    gradients = [(one.grad, two.grad) for one, two in pairs if one.grad is not None]
    assert 0 < float(torch.stack([one.norm() for one, _ in gradients]).norm()) <= 1.001e-3
    assert all(torch.equal(one, two) for one, two in gradients)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_no_step_waits_for_the_gpu():
    config = small_config()
    run = started(config, "cuda")
    batches = [read_neighborhoods(config, sample_scans(), step).pinned() for step in range(4)]
    for batch in batches[:2]:  # tables and moments are made in the first steps
        run.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[2:]:
            run.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.read_losses()
    assert len(run.history) == 4
