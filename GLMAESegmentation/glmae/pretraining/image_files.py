"""Pre-training on image files: folders or lists of scans in, a backbone folder out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
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
from .configuration import planned_config
from .further_term import MakeTerm
from .pretrain import RESUMABLE, pretrain

# The median scan is coarsened to about this many voxels: views at several scales are cut from it.
VIEWED_VOXELS = 192**3


def pretrain_images(
    *,
    images: Path,
    out: Path,
    preset: str = "tiny",
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

    Args:
        images: see `glmae.pretrain`, as of the other arguments that are not listed.
        preparation: spacing and intensities; None: planned from the scans.

    Returns:
        The names of the scans that could not be used; each was reported as an event.

    Raises:
        RequestError: the request is wrong, or no scan can be used; nothing was created.
        StorageError: the backbone could not be written.
        Stopped: the user stopped; `resume` goes on.
    """
    began = time.monotonic()
    if (steps is None) == (minutes is None):
        raise RequestError("give either the number of steps or the minutes")
    events = events or silent()
    request = {
        "images": str(images),
        "preset": preset,
        "preparation": None if preparation is None else preparation.to_json(),
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
        "settings": dict(settings or {}),
    }

    plan = partial(planned_config, preset, choose_device(device)[0].type, settings or {}, seed=seed)
    plan()  # refuses wrong settings before any scan is read
    run = RunFolder(out, request, resume)
    if run.finished:
        events.finished("pretrain", backbone=str(out), failed=[], message=f"{out} is finished already.")
        return []
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
    pretrain(
        plan(channels=len(preparation.normalization)),
        store,
        run,
        steps=steps,
        minutes=None if minutes is None else minutes_left(minutes, began),
        device=device,
        should_stop=should_stop,
        card={"preprocessing": preparation.to_json()},
        events=events,
        further=further,
    )
    failed = sorted({case.name for case in cases} - set(store.names))
    events.finished("pretrain", backbone=str(out), failed=failed, message=f"Backbone written to {out}.")
    return failed
