"""Training in less memory: the same batch in parts, the ladder's order, faults on the way, nothing lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from glmae import devices
from glmae.backbone.presets import preset
from glmae.errors import GLMAEError, RequestError
from glmae.events import recorded, silent
from glmae.job import Job
from glmae.scans.store import LabeledScan
from glmae.schedule import Schedule
from glmae.segmentation import memory_ladder
from glmae.segmentation.finetune_config import FinetuneConfig
from glmae.segmentation.memory_ladder import MemoryLadder, MemoryUse, recompute, training_bytes
from glmae.segmentation.network import SegmentationNetwork
from glmae.segmentation.training import Training

CPU = torch.device("cpu")
BACKBONE = dataclasses.replace(preset("tiny"), depth=2)
CONFIG = FinetuneConfig(crop=(24, 24, 16), batch=2)


def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(BACKBONE, 2)


def training(steps: int, config: FinetuneConfig = CONFIG, ladder: MemoryLadder | None = None) -> Training:
    rng = np.random.default_rng(0)
    label = np.zeros((30, 28, 20), np.uint8)
    label[5:15, 5:15, 5:15], label[18:25, 8:20, 6:12] = 1, 2
    image = (label[None] + rng.normal(0, 0.3, (1, *label.shape))).astype(np.float16)
    scan = LabeledScan(image, label, (True, True), (1.0, 1.0, 1.0))
    return Training(network(), config, [scan], Schedule(steps), CPU, memory=ladder)


def at_level(level: int, config: FinetuneConfig = CONFIG) -> MemoryLadder:
    ladder = MemoryLadder(config, BACKBONE.patch_size)
    ladder.level = level
    return ladder


def gradients(ladder: MemoryLadder) -> list[torch.Tensor]:
    """Of one step, not clipped."""
    run = training(1, dataclasses.replace(CONFIG, clip=1e9), ladder)
    run.step()
    return [parameter.grad for parameter in run.network.parameters() if parameter.grad is not None]


def fails(monkeypatch, calls: set[int], error: BaseException) -> list[int]:
    """The real forward pass, but in these of its calls memory is not enough."""
    forward, count = SegmentationNetwork.forward, [0]

    def faulty(self, x):
        count[0] += 1
        if count[0] in calls:
            raise error
        return forward(self, x)

    monkeypatch.setattr(SegmentationNetwork, "forward", faulty)
    return count


def test_the_ladder_is_batch_then_precision_and_recomputation_then_patch():
    uses = MemoryLadder(dataclasses.replace(CONFIG, batch=4, crop=(32, 24, 16)), (8, 8, 8)).uses
    assert [use.crops for use in uses[:3]] == [4, 2, 1]
    assert not any(use.lean for use in uses[:3])
    assert all(use.lean and use.crops == 1 for use in uses[3:])
    assert [use.crop for use in uses[3:]] == [(32, 24, 16), (16, 24, 16), (16, 16, 16)]


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(monkeypatch):
    monkeypatch.setattr(devices, "precision", lambda device: torch.float32)  # or rounding hides what is wrong
    whole, parts = gradients(at_level(0)), gradients(at_level(1))
    assert len(whole) == len(parts) > 20
    for one, other in zip(whole, parts, strict=True):
        scale = float(one.abs().max())
        assert torch.allclose(one, other, rtol=0, atol=1e-6 + 1e-3 * scale), scale


def test_recomputation_changes_nothing():
    plain, again = network(), network()
    recompute(again)
    x = torch.randn(1, 1, 16, 16, 16)
    for net in (plain, again):
        net.train()
        sum(level.float().square().mean() for level in net(x)).backward()
    assert list(plain.state_dict()) == list(again.state_dict())
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_each_rung_needs_less():
    config = dataclasses.replace(CONFIG, batch=4, crop=(64, 64, 64))
    needs = training_bytes(network(), MemoryLadder(config, (8, 8, 8)).uses, CPU)
    assert needs == sorted(needs, reverse=True)
    fixed = training_bytes(network(), [MemoryUse(0, False, (64, 64, 64))], CPU)[0]
    assert needs[0] - fixed > 20 * (needs[-1] - fixed)


def test_before_the_run_what_is_free_decides(monkeypatch):
    ladder = MemoryLadder(dataclasses.replace(CONFIG, batch=4, crop=(64, 64, 64)), (8, 8, 8))
    needs = training_bytes(network(), ladder.uses, CPU)
    events: list[dict] = []
    monkeypatch.setattr(memory_ladder, "free_memory", lambda device: 2 * needs[0])
    ladder.plan(network(), CPU, recorded(events))
    assert ladder.level == 0
    assert [event["event"] for event in events] == ["estimate"]
    assert events[0]["memory_bytes"] == needs[0]

    events.clear()
    monkeypatch.setattr(memory_ladder, "free_memory", lambda device: round(needs[2] / 0.85) + 1000)
    ladder.plan(network(), CPU, recorded(events))
    assert ladder.use.crops == 1
    assert "1 crop of 64 x 64 x 64" in events[0]["message"]

    monkeypatch.setattr(memory_ladder, "free_memory", lambda device: 10_000_000)
    with pytest.raises(RequestError, match="close other programs"):
        ladder.plan(network(), CPU, silent())


def test_out_of_memory_once_goes_on_with_the_same_batch_and_loses_no_step(monkeypatch, tmp_path):
    undisturbed: list[dict] = []
    training(4).run(tmp_path / "undisturbed", Job(recorded(undisturbed), CPU))
    fails(monkeypatch, {3}, torch.OutOfMemoryError("CUDA out of memory"))
    disturbed, events = training(4), []
    disturbed.run(tmp_path / "disturbed", Job(recorded(events), CPU))
    assert [event["done"] for event in events if event["event"] == "progress"] == [1, 2, 3, 4]
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert len(warnings) == 1
    assert "from step 3 on, training with 1 crop of" in warnings[0]
    assert disturbed.config.crop == CONFIG.crop
    losses = [
        [event["loss"] for event in recording if event["event"] == "progress"] for recording in (events, undisturbed)
    ]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_out_of_memory_again_and_again_ends_with_smaller_crops(monkeypatch, tmp_path):
    fails(monkeypatch, {2, 3, 4, 5}, torch.OutOfMemoryError("CUDA out of memory"))
    run, events = training(3), []
    run.run(tmp_path / "checkpoint", Job(recorded(events), CPU))
    assert run.schedule.done == 3
    assert run.config.crop == (16, 16, 16)
    assert len([event for event in events if event["event"] == "warning"]) == 4
    assert all(torch.isfinite(parameter).all() for parameter in run.averaged_network().parameters())


def test_when_nothing_helps_the_state_is_kept_and_resuming_works(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        fails(patch, set(range(3, 1000)), MemoryError())
        with pytest.raises(GLMAEError, match="--resume"):
            training(4).run(tmp_path / "checkpoint", Job(silent(), CPU))
    events: list[dict] = []
    resumed = training(4)
    resumed.run(tmp_path / "checkpoint", Job(recorded(events), CPU))
    assert [event["done"] for event in events if event["event"] == "progress"] == [3, 4]
    assert resumed.memory.last, "what did not fit is not tried again"


def test_another_error_is_none_of_its_business(monkeypatch, tmp_path):
    fails(monkeypatch, {1}, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape"):
        training(2).run(tmp_path / "checkpoint", Job(silent(), CPU))
