"""Previews of a training under way: what is asked for between steps is answered, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from glmae.errors import Stopped
from glmae.events import Events
from glmae.segmentation import preview
from glmae.segmentation.finetuning import finetune

STEPS = 6
# A head that is fitted so badly finds many pieces.
SMALL = {"crop": (24, 32, 24), "start_steps": 5, "start_crops": 1, "location": False}


def run(folder: Path, out: Path, *asked: Any, should_stop: Callable[[], bool] = lambda: False) -> list[dict]:
    """A training in which one of `asked` is put as a request after the second step, the next after the third, ..."""
    events: list[dict] = []

    def relay(event: dict) -> None:
        events.append(event)
        if event["event"] == "progress" and event["stage"] == "finetune" and 0 <= event["done"] - 2 < len(asked):
            (out / "unfinished" / "preview.json").write_text(json.dumps(asked[event["done"] - 2]), encoding="utf-8")
        if event["event"] == "preview" and "file" in event:
            labels = sitk.ReadImage(event["file"])  # it is there, and whole, when it is told
            event["size"] = labels.GetSize()
            parts = [sitk.GetArrayFromImage(sitk.ConnectedComponent(labels == value, True)).max() for value in (1, 2)]
            event["pieces"] = max(parts)

    labeled = {"images": folder / "images", "labels": folder / "labels", "out": out, "backbone": "none"}
    finetune(**labeled, device="cpu", settings=SMALL, steps=STEPS, events=Events(relay), should_stop=should_stop)
    return events


def answers(events: list[dict]) -> list[dict]:
    return [event for event in events if event["event"] == "preview"]


def test_a_request_is_answered_once_and_the_weights_stay_the_same(few_scans, sample_scans, tmp_path):
    image = sample_scans / "images" / "hippocampus_097.nii.gz"  # not one of the training
    (answer,) = answers(run(few_scans, tmp_path / "asked", {"image": str(image)}))
    assert (answer["case"], answer["step"]) == ("hippocampus_097", 2)
    assert not run_left(tmp_path / "asked")
    assert not answers(run(few_scans, tmp_path / "not asked"))
    asked, not_asked = (load_file(tmp_path / name / "weights.safetensors") for name in ("asked", "not asked"))
    assert all(torch.equal(asked[name], not_asked[name]) for name in asked)
    assert answer["pieces"] == 1, "post-processed as a result is"
    size = sitk.ReadImage(str(image)).GetSize()
    assert all(part <= whole for part, whole in zip(answer["size"], size, strict=True))


def run_left(out: Path) -> bool:
    return (out / "unfinished").exists()


def test_requests_that_cannot_be_answered_are_said_and_the_training_goes_on(few_scans, tmp_path):
    events = run(few_scans, tmp_path / "out", {"image": "nowhere.nii.gz"}, {"file": 3}, 7)
    assert [answer["step"] for answer in answers(events)] == [2, 3, 4]
    assert all(answer["message"].startswith("no preview of") for answer in answers(events))
    assert events[-1]["event"] == "finished"


def test_one_that_takes_too_long_is_given_up(few_scans, sample_scans, tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "LEAST_SECONDS", 0.0)
    image = sample_scans / "images" / "hippocampus_097.nii.gz"
    (answer,) = answers(run(few_scans, tmp_path / "out", {"image": str(image)}))
    assert "takes too long" in answer["message"]


def test_stopping_in_a_preview_keeps_what_was_learned(few_scans, sample_scans, tmp_path, monkeypatch):
    image, out = sample_scans / "images" / "hippocampus_097.nii.gz", tmp_path / "out"
    taken = preview.find_images

    def take(paths: list[Path]) -> Any:
        stop.append(True)  # while it is being answered
        return taken(paths)

    stop: list[bool] = []
    monkeypatch.setattr(preview, "find_images", take)
    with pytest.raises(Stopped):
        run(few_scans, out, {"image": str(image)}, should_stop=lambda: bool(stop))
    assert (out / "unfinished" / "checkpoint.safetensors").exists()
