"""What is shown of the job, the set-up and the chosen model, as fields of `PanelState`."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from ..jobs.current import CurrentJob
from ..models.chosen import ChosenModel
from ..setup.set_up import SetUp


def shown(job: CurrentJob, set_up: SetUp, model: ChosenModel) -> dict[str, Any]:
    """The fields by name."""
    return {
        "running": job.kind,
        "preparing": job.preparing,
        "stopping": job.stopping,
        "finishing": job.finishing,
        "preview": job.training.preview.sentence,
        "preview_asked": job.training.preview.asked,
        "preview_of": job.training.preview.node_id,
        "preview_scan": job.training.preview.volume_id,
        "progress": None if job.progress is None else deepcopy(job.progress),
        "queue": job.segmentation.queue.scans,
        "engine": set_up.status,
        "checking": set_up.checking,
        "set_up": set_up.report,
        "shipped": set_up.backbone,
        "model": model.name,
        "scores": tuple(model.scores),
        "advice": " ".join(part for part in (model.origin, model.advice) if part),
    }
