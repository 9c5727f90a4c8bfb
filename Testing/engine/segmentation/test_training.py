"""The training loop: interrupted in the midst of a step, and steps whose loss is not finite."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from test_memory_ladder import training

from glmae.errors import GLMAEError
from glmae.events import recorded, silent
from glmae.segmentation import training as loop


@pytest.fixture(autouse=True)
def saved_once(monkeypatch):
    """After the first step only, however slow the computer is."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 1e9)


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
        run.run(checkpoint, silent(), lambda: False)
    weights = load_file(checkpoint)
    assert all(torch.equal(weights[f"network.{name}"], value) for name, value in run.network.state_dict().items())
    again = training(5)
    again.restore(checkpoint)
    assert again.schedule.done == 3


def test_one_that_is_interrupted_while_weights_change_leaves_the_checkpoint_before(monkeypatch, tmp_path):
    run, checkpoint = training(5), tmp_path / "checkpoint.safetensors"
    interrupted(run, monkeypatch, run.optimiser, "step", 4)
    with pytest.raises(KeyboardInterrupt):
        run.run(checkpoint, silent(), lambda: False)
    again = training(5)
    again.restore(checkpoint)
    assert again.schedule.done == 1


def test_nothing_is_kept_of_a_first_step_that_was_interrupted(monkeypatch, tmp_path):
    run, checkpoint = training(5), tmp_path / "checkpoint.safetensors"
    interrupted(run, monkeypatch, run, "_gradients", 1)
    with pytest.raises(KeyboardInterrupt):
        run.run(checkpoint, silent(), lambda: False)
    assert not checkpoint.exists()


def not_finite(run, monkeypatch, steps) -> None:
    """Batches of these steps hold a NaN."""
    original = run._batch

    def batch(step):
        made = original(step)
        if step in steps:
            made.image[0, 0, 0, 0, 0] = torch.nan
        return made

    monkeypatch.setattr(run, "_batch", batch)


def test_a_step_that_is_not_finite_changes_nothing(monkeypatch, tmp_path):
    run, heard = training(4), []
    not_finite(run, monkeypatch, {1, 2})
    run.run(tmp_path / "checkpoint.safetensors", recorded(heard), lambda: False)
    assert run.schedule.finished
    assert all(bool(value.isfinite().all()) for value in run.network.state_dict().values())
    assert ["loss" in event for event in heard if event["event"] == "progress"] == [True, False, False, True]


def test_a_training_that_stays_not_finite_ends_with_a_sentence(monkeypatch, tmp_path):
    run = training(100)
    not_finite(run, monkeypatch, range(100))
    with pytest.raises(GLMAEError, match=f"step {loop.MOST_SKIPPED}: the loss is not finite; check the scans"):
        run.run(tmp_path / "checkpoint.safetensors", silent(), lambda: False)
