"""Pre-training on image files: folders or lists of scans in, a backbone folder out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import RequestError
from ..events import Events, silent
from ..run_folder import RunFolder
from ..scans.cases import find_images
from ..scans.classes import ClassTable
from ..scans.fingerprint import measure
from ..scans.preparation import plan_preparation
from ..scans.store import ScanStore
from ..schedule import minutes_left
from .configuration import pretrain_config
from .job import pretrain
from .paper_recipe import NAME, PRESET, paper_config, paper_preparation, paper_steps

# The median scan is coarsened to about this many voxels: views at several scales are cut from it.
SCAN_VOXELS = 192**3


def pretrain_images(
    *,
    images: Path,
    out: Path,
    preset: str | None = None,
    recipe: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Pre-train a backbone on scans without labels; the same as `glmae pretrain`.

    Args:
        images: folder of scans, or a text file with one path a line.
        out: the backbone folder, made here.
        preset: tiny, small or base; None: tiny, or the recipe's.
        recipe: "paper" for the paper's views, intensities, rates and length instead of the planned ones; None: planned.
        steps: length of the run; with the same seed the weights are the same (on the CPU).
        minutes: instead of `steps`: the run ends, backbone written, after this time.
        seed: of everything random.
        device: auto, cpu, cuda or mps.
        resume: go on with an unfinished run in `out`.
        events: where to report to.
        should_stop: asked after every step; True stops the run, resumable.

    Returns:
        The names of the scans that could not be used; each was reported as an event.

    Raises:
        RequestError: the request is wrong, or no scan can be used; nothing was created.
        StorageError: the backbone could not be written.
        Stopped: the user stopped; `resume` goes on.
    """
    began = time.monotonic()
    events = events or silent()
    if recipe not in (None, NAME):
        raise RequestError(f"there is no recipe '{recipe}' for pre-training; the only one is {NAME}")
    unlimited = steps is None and minutes is None
    if (steps is None) == (minutes is None) and not (recipe and unlimited):
        raise RequestError("give either the number of steps or the minutes")
    preset = preset or ("tiny" if recipe is None else PRESET)
    request = {
        "images": str(images),
        "preset": preset,
        "recipe": recipe,
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
    }
    run = RunFolder(out, request, resume)
    if run.finished:
        events.finished("pretrain", backbone=str(out), failed=[], message=f"{out} is finished already.")
        return []
    cases = find_images([images], unique=False)
    if unlimited:
        steps = paper_steps(len(cases))
    events.started("pretrain", cases=len(cases))
    if recipe is None:
        fingerprint = measure(cases, ClassTable(()), events, read_failures="skip")
        preparation = plan_preparation(fingerprint, SCAN_VOXELS)
        config = pretrain_config(preset, channels=len(preparation.normalisation), seed=seed)
    else:
        preparation, config = paper_preparation(), paper_config(preset, seed)
    run.begin()
    try:
        store = ScanStore.prepare(run.unfinished / "scans", cases, preparation, None, events, read_failures="skip")
        pretrain(
            config,
            store,
            run,
            steps=steps,
            minutes=None if minutes is None else minutes_left(minutes, began),
            device=device,
            should_stop=should_stop,
            card={"preprocessing": preparation.to_json()},
            events=events,
        )
    except BaseException:
        run.abandon()
        raise
    failed = sorted({case.name for case in cases} - set(store.names))
    events.finished("pretrain", backbone=str(out), failed=failed, message=f"Backbone written to {out}.")
    return failed
