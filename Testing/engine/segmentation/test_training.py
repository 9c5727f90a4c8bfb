"""The training loop: what each step does, interrupted in the midst of one, and steps whose loss is not finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_memory_ladder import CONFIG, CPU, network, training

from glmae.devices import autocast
from glmae.errors import GLMAEError, Stopped
from glmae.events import Events, recorded, silent
from glmae.job import Job
from glmae.schedule import Schedule
from glmae.segmentation import training as loop
from glmae.segmentation.crops import CropSampler, LabeledScan
from glmae.segmentation.finetune_config import AugmentationConfig
from glmae.segmentation.loss import segmentation_loss
from glmae.segmentation.training import Training


@pytest.fixture(autouse=True)
def saved_once(monkeypatch):
    """After the first step only, however slow the computer is."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 1e9)


def seen_after_each_step(run: Training, folder: Path, look: Callable[[dict], Any]) -> list:
    """What `look` makes of the progress events of a whole run."""
    seen: list = []

    def sink(event: dict) -> None:
        if event["event"] == "progress":
            seen.append(look(event))

    run.run(folder / "checkpoint.safetensors", Job(Events(sink), CPU))
    return seen


def test_head_trunk_and_backbone_warm_up_and_run_down_at_rates_of_their_own(tmp_path):
    run = training(8, dataclasses.replace(CONFIG, rate=4e-3, trunk_rate=2e-3, backbone_rate=1e-3, warm_up=0.25))
    parts = run.network.head.output, run.network.head.trunk, run.network.backbone.blocks

    def rates(event: dict) -> list[set[float]]:
        own = [{id(parameter) for parameter in part.parameters()} for part in parts]
        groups = run.optimizer.param_groups
        return [{group["lr"] for group in groups for each in group["params"] if id(each) in ids} for ids in own]

    found = seen_after_each_step(run, tmp_path, rates)
    places = [(step + 0.5) / 8 for step in range(8)]
    factors = [t / 0.25 if t < 0.25 else 0.5 * (1 + math.cos(math.pi * (t - 0.25) / 0.75)) for t in places]
    for (head, trunk, backbone), factor in zip(found, factors, strict=True):
        assert list(head) == pytest.approx([4e-3 * factor])
        assert list(trunk) == pytest.approx([2e-3 * factor])
        assert list(backbone) == pytest.approx([1e-3 * factor])


def test_weight_decay_shrinks_matrices_and_kernels_alone():
    """One step with it and one without: norms and biases end alike."""
    ended = []
    for decay in (0.0, 0.5):
        run = training(1, dataclasses.replace(CONFIG, weight_decay=decay))
        with torch.no_grad():
            for parameter in run.network.parameters():
                parameter += 0.01  # biases start at zero, which no decay would change
        run.step()
        ended.append({name: each for name, each in run.network.named_parameters() if each.grad is not None})
    kinds = {name: "matrix" if each.ndim > 1 else "single" for name, each in ended[0].items() if "cls_" not in name}
    assert {*kinds.values()} == {"matrix", "single"}
    for name, kind in kinds.items():
        assert torch.equal(ended[0][name], ended[1][name]) == (kind == "single"), name


def test_gradients_are_clipped_and_of_one_batch():
    """The second step of a run that learns nothing has the gradients of a run that begins there."""
    still = dataclasses.replace(CONFIG, rate=0.0, trunk_rate=0.0, backbone_rate=0.0, clip=1e-3)
    run, beginning = training(4, still), training(4, still)
    run.step()
    run.schedule.step_done()
    run.step()
    beginning.schedule.step_done()
    beginning.step()
    pairs = zip(run.network.parameters(), beginning.network.parameters(), strict=True)
    gradients = [(one.grad, two.grad) for one, two in pairs if one.grad is not None]
    assert float(torch.stack([one.norm() for one, _ in gradients]).norm()) == pytest.approx(1e-3, rel=1e-3)
    assert all(torch.equal(one, two) for one, two in gradients)


@pytest.mark.parametrize("drawn", [(True, True), (False, True)], ids=["all drawn", "one not drawn"])
def test_classes_count_alike_at_first_and_voxels_at_the_end(drawn, tmp_path):
    """A scan of one crop, and a network that does not learn: nothing but the balance of the loss changes."""
    label = np.zeros((16, 16, 16), np.uint8)
    label[:8], label[12:, 14:, 14:] = drawn[0], 2
    image = np.random.default_rng(0).normal(size=(1, *label.shape)).astype(np.float16)
    scan = LabeledScan(image, label, drawn, (1.0, 1.0, 1.0))
    plain = AugmentationConfig(spatial=0, elastic=0, intensity=0)
    still = dataclasses.replace(
        CONFIG, crop=label.shape, rate=0.0, trunk_rate=0.0, backbone_rate=0.0, augmentation=plain
    )
    run = Training(network(), still, [scan], Schedule(4), CPU, False)
    with torch.no_grad():
        run.network.head.output.bias[2] -= 3  # the small class is the less expected one
    found = seen_after_each_step(run, tmp_path, lambda event: event["loss"])
    with torch.no_grad(), autocast(CPU):
        logits = run.network.train()(torch.from_numpy(image)[None].float())
    whole = logits, torch.from_numpy(label)[None], torch.tensor([drawn])
    expected = [float(segmentation_loss(*whole, balance)) for balance in (1.0, 0.75, 0.5, 0.25)]
    assert np.abs(np.diff(expected)).min() > 0.02
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_weights_of_the_last_steps_are_averaged(tmp_path):
    """A running mean over about 20 of a hundred steps, begun when three times as many are left."""
    run = training(10, dataclasses.replace(CONFIG, average=0.2))
    name = "head.output.weight"
    weights = seen_after_each_step(run, tmp_path, lambda event: run.network.get_parameter(name).detach().clone())
    mean = weights[4].double()
    for each in weights[5:]:
        mean += (each - mean) / 3  # two of ten steps are remembered
    found = run.averaged_network().get_parameter(name).detach()
    torch.testing.assert_close(found.double(), mean, atol=1e-6, rtol=1e-5)
    assert float((found - weights[-1]).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("gentle", "scans", "settled", "share"),
    [(True, 1, 2, 0.4), (True, 2, 1, 0.2), (True, 2, 8, 0.8), (False, 1, 8, 0.0)],
)
def test_a_share_of_a_start_that_fits_stays_in_the_weights(gentle, scans, settled, share, tmp_path):
    config = dataclasses.replace(CONFIG, keep=0.4, average=0.5, settled=settled)
    run = Training(network(), config, training(1).scans * scans, Schedule(2), CPU, gentle)
    start = network().state_dict()
    run.run(tmp_path / "checkpoint.safetensors", Job(silent(), CPU))
    assert run.averaged is not None
    end = {name: entry.clone() for name, entry in run.averaged.module.state_dict().items()}
    moved = 0.0
    for name, found in run.averaged_network().state_dict().items():
        torch.testing.assert_close(found, (1 - share) * end[name] + share * start[name], atol=1e-6, rtol=1e-5)
        moved = max(moved, float((end[name] - start[name]).abs().max()))
    assert moved > 1e-4


def test_crops_are_drawn_as_the_configuration_says():
    everything = AugmentationConfig(spatial=1, elastic=1, intensity=1)
    config = dataclasses.replace(CONFIG, batch=3, foreground=0.3, seed=5, augmentation=everything)
    run = training(3, config)
    assert run.location is not None
    near = [run.location.on(scan.image, scan.spacing).near(loop.NEAR) for scan in run.scans]
    expected = CropSampler(run.scans, config.crop, 3, 0.3, everything, 5, near)
    for step, made in zip(range(3), run._batches(), strict=False):
        assert torch.equal(made.image, expected.batch(step).image)
        assert torch.equal(made.target, expected.batch(step).target)


def test_one_that_is_stopped_and_goes_on_ends_with_the_same_weights(tmp_path):
    """Stopped when the weights are averaged already: those, the moments and the place in the schedule are kept."""
    config = dataclasses.replace(CONFIG, average=0.2)
    whole, stopped, resumed = (training(5, config) for _ in range(3))
    whole.run(tmp_path / "whole", Job(silent(), CPU))
    with pytest.raises(Stopped, match="after step 4"):
        stopped.run(tmp_path / "stopped", Job(silent(), CPU, lambda: stopped.schedule.done == 4))
    resumed.run(tmp_path / "stopped", Job(silent(), CPU))
    pairs = zip(whole.averaged_network().parameters(), resumed.averaged_network().parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def interrupted(run, monkeypatch, owner, name: str, calls: int) -> None:
    """The user asks a second time in the call of this number."""
    original, count = getattr(owner, name), [0]

    def interrupting(*values, **named):
        count[0] += 1
        if count[0] == calls:
            raise KeyboardInterrupt
        return original(*values, **named)

    monkeypatch.setattr(owner, name, interrupting)


def test_an_interrupted_step_loses_only_itself(monkeypatch, tmp_path):
    run, checkpoint = training(5), tmp_path / "checkpoint.safetensors"
    interrupted(run, monkeypatch, run, "_gradients", 4)
    with pytest.raises(KeyboardInterrupt):
        run.run(checkpoint, Job(silent(), CPU))
    weights = load_file(checkpoint)
    assert all(torch.equal(weights[f"network.{name}"], value) for name, value in run.network.state_dict().items())
    again = training(5)
    again.restore(checkpoint)
    assert again.schedule.done == 3


def test_one_that_is_interrupted_while_weights_change_leaves_the_checkpoint_before(monkeypatch, tmp_path):
    run, checkpoint = training(5), tmp_path / "checkpoint.safetensors"
    interrupted(run, monkeypatch, run.optimizer, "step", 4)
    with pytest.raises(KeyboardInterrupt):
        run.run(checkpoint, Job(silent(), CPU))
    again = training(5)
    again.restore(checkpoint)
    assert again.schedule.done == 1


def test_nothing_is_kept_of_a_first_step_that_was_interrupted(monkeypatch, tmp_path):
    run, checkpoint = training(5), tmp_path / "checkpoint.safetensors"
    interrupted(run, monkeypatch, run, "_gradients", 1)
    with pytest.raises(KeyboardInterrupt):
        run.run(checkpoint, Job(silent(), CPU))
    assert not checkpoint.exists()


def not_finite(run, monkeypatch, steps) -> None:
    """Batches of these steps hold a NaN."""
    original = run._batches

    def batches():
        for step, made in enumerate(original(), run.schedule.done):
            if step in steps:
                made.image[0, 0, 0, 0, 0] = torch.nan
            yield made

    monkeypatch.setattr(run, "_batches", batches)


def test_a_step_that_is_not_finite_changes_nothing(monkeypatch, tmp_path):
    run, heard = training(4), []
    not_finite(run, monkeypatch, {1, 2})
    run.run(tmp_path / "checkpoint.safetensors", Job(recorded(heard), CPU))
    assert run.schedule.finished
    assert all(bool(value.isfinite().all()) for value in run.network.state_dict().values())
    assert ["loss" in event for event in heard if event["event"] == "progress"] == [True, False, False, True]


def test_a_training_that_stays_not_finite_ends_with_a_sentence(monkeypatch, tmp_path):
    run = training(100)
    not_finite(run, monkeypatch, range(100))
    with pytest.raises(GLMAEError, match=f"step {loop.MOST_SKIPPED}: .*not finite"):
        run.run(tmp_path / "checkpoint.safetensors", Job(silent(), CPU))
