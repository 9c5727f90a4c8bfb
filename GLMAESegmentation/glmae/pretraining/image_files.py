"""Pre-training on image files: folders or lists of scans in, a backbone folder out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..devices import choose_device
from ..errors import RequestError
from ..events import Events, recorded, silent
from ..run_folder import RunFolder
from ..scans.cases import find_images
from ..scans.classes import ClassTable
from ..scans.measurement import measure
from ..scans.preparation import Preparation, plan_preparation
from ..scans.store import ScanStore
from ..schedule import minutes_left
from .configuration import PretrainConfig, planned_config
from .further_term import MakeTerm
from .pretrain import RESUMABLE, pretrain
from .ranks import joined

# The median scan is coarsened to about this many voxels: views at several scales are cut from it.
VIEWED_VOXELS = 192**3


def pretrain_images(
    *,
    images: Path,
    out: Path,
    preset: str = "tiny",
    batch: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    preparation: Preparation | None = None,
    settings: Mapping[str, Any] | None = None,
    further: MakeTerm | None = None,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Pre-train a backbone on scans without labels; the same as `glmae pretrain`.

    Under torchrun, all processes call this alike and share the work; the first prepares the scans and reports.

    Args:
        images: see `glmae.pretrain`, as of the other arguments that are not listed.
        out: the backbone folder, made here; of several machines, on a disk that all of them see.
        batch: volumes in a step, of all processes together.
        preparation: spacing and intensities; None: planned from the scans.

    Returns:
        The names of the scans that could not be used; each was reported as an event.

    Raises:
        RequestError: the request is wrong, or no scan can be used; nothing was created.
        StorageError: the backbone could not be written.
        Stopped: the user stopped; `resume` goes on.
        RankLost: another process ended; `resume` goes on.
    """
    began = time.monotonic()
    if (steps is None) == (minutes is None):
        raise RequestError("give either the number of steps or the minutes")
    request = {
        "images": str(images),
        "preset": preset,
        "preparation": None if preparation is None else preparation.to_json(),
        "batch": batch,
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
        "settings": dict(settings or {}),
    }

    def config(channels: int = 1) -> PretrainConfig:
        planned = planned_config(preset, kind, channels=channels, batch=batch, seed=seed)
        return planned.changed(settings or {})

    with joined(device) as ranks:
        kind = choose_device(device)[0].type
        events = events if events is not None and ranks.first else silent()
        ranks.share(config().batch)
        job = ranks.decided(
            lambda: _prepared(images, RunFolder(out, request, resume), preparation, events, should_stop)
        )
        if job is None:
            events.finished("pretrain", backbone=str(out), failed=[], message=f"{out} is finished already.")
            return []
        run = RunFolder(out, request, resume=True)
        preparation = Preparation.from_json(job["preparation"])
        if not run.unfinished.is_dir():
            raise RequestError(f"{out} is not seen by all machines; choose a folder on a disk that they share")
        pretrain(
            config(channels=len(preparation.normalisation)),
            ScanStore(run.scans, job["scans"]),
            run,
            steps=steps,
            minutes=None if minutes is None else minutes_left(minutes, began),
            device=device,
            should_stop=should_stop,
            card={"preprocessing": preparation.to_json()},
            events=events,
            ranks=ranks,
            pictures=True,
            further=further,
        )
    failed: list[str] = job["failed"]
    events.finished("pretrain", backbone=str(out), failed=failed, message=f"Backbone written to {out}.")
    return failed


def _prepared(
    images: Path, run: RunFolder, preparation: Preparation | None, events: Events, should_stop: Callable[[], bool]
) -> Mapping[str, Any] | None:
    """Prepare the scans: how, the store's entries, who failed; None if the run is finished."""
    if run.finished:
        return None
    heard: list[dict[str, Any]] = []
    cases = find_images([images], unique=False, events=recorded(heard))
    events.started("pretrain", cases=len(cases))
    for event in heard:
        events.emit(**event)
    if preparation is None:
        preparation = plan_preparation(measure(cases, ClassTable(()), events, read_failures="skip"), VIEWED_VOXELS)
    run.begin()
    with run.abandoned_but_for(*RESUMABLE):
        store = ScanStore.prepare(
            run.scans, cases, preparation, events=events, read_failures="skip", should_stop=should_stop
        )
    failed = sorted({case.name for case in cases} - set(store.names))
    scans = list(store.entries)
    return {"preparation": preparation.to_json(), "scans": scans, "failed": failed}
