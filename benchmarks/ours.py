"""GLMAE itself, through the functions that a user calls."""

from __future__ import annotations

import time
from pathlib import Path

from task import Outcome, Task

from glmae.backbone.weights import SHIPPED
from glmae.errors import GLMAEError
from glmae.model_folder import read_model
from glmae.segmentation.batch import segment
from glmae.segmentation.finetuning import finetune


def backbone_is_shipped() -> bool:
    """Whether the project ships a pre-trained backbone; without one there is nothing to call `glmae`."""
    return any(SHIPPED.glob("*/model.json"))


def run(task: Task) -> Outcome:
    """Fine-tune with all defaults, and segment.

    `glmae` starts from the shipped backbone, `glmae_scratch` from none; `glmae_instant` is what `glmae` starts from,
    and takes the time that it takes.
    """
    began = time.monotonic()
    data, scratch, instant = task.data, task.method == "glmae_scratch", task.method == "glmae_instant"
    model = finetune(
        images=data.images,
        labels=data.labels,
        out=Path(task.work) / "model",
        cases=task.labeled,
        backbone="none" if scratch else None,
        steps=0 if instant else None,
        minutes=None if instant else task.minutes,
        seed=task.seed,
        device=task.device,
        settings=task.settings or None,
    ).folder
    ready = time.monotonic()
    failed = segment(
        model=model, images=task.test_images, out=task.predictions, file_format="nii.gz", device=task.device
    )
    if failed:
        raise GLMAEError(f"{task.method} could not segment {', '.join(failed)}")
    card = read_model(model, "segmentation").content
    return Outcome(seconds=ready - began, segment_seconds=time.monotonic() - ready, steps=card["schedule"]["done"])
