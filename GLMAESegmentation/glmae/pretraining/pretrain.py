"""The pre-training job: prepared scans in, a backbone folder out; resumable at every step."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ..backbone.weights import write_weights
from ..devices import choose_device, precision
from ..errors import RequestError, Stopped
from ..events import Events, silent
from ..files import write_json
from ..model_folder import WEIGHTS, write_model
from ..prefetch import prefetch
from ..run_folder import RunFolder
from ..schedule import Schedule
from ..side_streams import SideStreams
from .configuration import PretrainConfig
from .further_term import MakeTerm
from .run import COLUMNS, Run
from .views import Neighborhoods, Scans, read_neighborhoods

HISTORY = "history.json"
# What leaves the run as it is, to be gone on with.
RESUMABLE = (Stopped, KeyboardInterrupt)
# Reading a loss waits for the device; on a GPU that is done once in so many steps.
READ_EVERY = {"cpu": 1, "cuda": 20, "mps": 20}
# Batches that are read at once, each in a thread: a GPU is fast, and a CPU has other work.
READERS = {"cpu": 1, "cuda": max(1, min(16, (os.cpu_count() or 2) - 2)), "mps": 2}
# Memory for batches that wait to be used.
BYTES_AHEAD = 4 * 2**30
EVENT_SECONDS, CHECKPOINT_SECONDS = 0.5, 60.0


def pretrain(
    config: PretrainConfig,
    scans: Scans,
    out: Path | RunFolder,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    card: Mapping[str, Any] | None = None,
    events: Events | None = None,
    further: MakeTerm | None = None,
) -> Path:
    """Pre-train a backbone.

    Args:
        scans: prepared scans [C, I, J, K].
        out: folder to make, or a run folder that the caller opened.
        steps: length of the run; exclusive with `minutes`.
        minutes: time for the run; the number of steps follows from the first ones.
        card: further entries of model.json (preparation, training cases).

    Returns:
        The backbone folder: weights.safetensors (encoder and decoder), model.json, history.json.

    Raises:
        RequestError: the folder or the scans cannot be used for this.
        Stopped: `should_stop` said so; the run can be resumed.
        StorageError: a checkpoint or a result cannot be written; the last checkpoint is intact.
        GLMAEError: the loss is no longer finite.
    """
    events = events or silent()
    _check_scans(config, scans)
    request = {"config": config.to_json(), "steps": steps, "minutes": minutes}
    folder = out if isinstance(out, RunFolder) else RunFolder(out, request, resume)
    if folder.finished:
        events.info(f"{folder.out} is finished already.")
        return folder.out
    chosen, reason = choose_device(device)
    events.info(reason)
    with folder.abandoned_but_for(*RESUMABLE):
        folder.begin()
        run = Run(
            config,
            chosen,
            Schedule(steps, minutes),
            checkpoint=folder.checkpoint if folder.checkpoint.exists() else None,
            further=further,
        )
        if run.schedule.done:
            events.info(f"Going on after step {run.schedule.done}.")
        _train(run, scans, folder, should_stop, events)
        _write_backbone(run, folder.out, len(scans), card or {})
    folder.end()
    return folder.out


def _train(
    run: Run,
    scans: Scans,
    folder: RunFolder,
    should_stop: Callable[[], bool],
    events: Events,
) -> None:
    """Step until the schedule ends."""
    run.model.train()
    schedule = run.schedule
    saved = reported = time.monotonic()
    readers = READERS[run.device.type]
    # Several readers compute in one thread each: threads of theirs would wait for one another.
    single = (lambda: torch.set_num_threads(1)) if readers > 1 else None
    streams = SideStreams(run.device)
    coming = prefetch(
        lambda step: _read(run, scans, step, streams),
        itertools.count(schedule.done),
        readers,
        lambda batch: min(readers, BYTES_AHEAD // batch.bytes),
        single,
    )
    with closing(coming):
        finished = schedule.finished
        while not finished:
            batch = next(coming).result()
            streams.hand_over(batch)
            run.step(batch)
            stop = should_stop()
            saving = stop or time.monotonic() - saved >= CHECKPOINT_SECONDS
            finished = schedule.finished  # asked once a step: of a run of minutes, the answer changes with the clock
            if saving or finished or schedule.done % READ_EVERY[run.device.type] == 0:
                run.read_losses()
            now = time.monotonic()
            if schedule.steps is not None and run.history and (now - reported > EVENT_SECONDS or finished):
                events.progress(
                    "pre-training", schedule.done, schedule.steps, schedule.seconds_left, loss=run.history[-1][1]
                )
                reported = now
            if saving:
                run.save(folder.checkpoint)
                saved = time.monotonic()
            if stop and not finished:
                raise Stopped(f"stopped after step {schedule.done}; continue with --resume")


def _read(run: Run, scans: Scans, step: int, streams: SideStreams) -> Neighborhoods:
    if run.device.type != "cuda":  # Apple's, too: some of them cannot resample in 3D
        return read_neighborhoods(run.config, scans, step, further=run.model.further)
    return streams.run(
        lambda: read_neighborhoods(run.config, scans, step, device=run.device, further=run.model.further)
    ).pinned()


def _check_scans(config: PretrainConfig, scans: Scans) -> None:
    if len(scans) == 0:
        raise RequestError("there are no scans to pre-train on; name a folder that holds some")
    # A collection that says its channels is not opened, scan by scan: synthetic scans are made when they are asked for.
    said = getattr(scans, "channels", None)
    for index in range(len(scans) if said is None else 1):
        shape = scans.image(index).shape if said is None else (said, "I", "J", "K")
        if len(shape) != 4 or shape[0] != config.backbone.channels:
            raise RequestError(
                f"scan {index + 1} has shape {list(shape)}, not [{config.backbone.channels}, I, J, K]; "
                "all scans need the same channels"
            )


def _write_backbone(run: Run, out: Path, scans: int, card: Mapping[str, Any]) -> None:
    """Write the result; model.json comes last, so that a folder that has it is complete."""
    model, schedule = run.model, run.schedule
    kept = "teacher" if run.config.output == "teacher" and model.teacher is not None else "student"
    encoder = model.teacher if kept == "teacher" and model.teacher is not None else model.student
    further = {} if model.further is None else model.further.weights()
    write_weights(out / WEIGHTS, {**encoder.state_dict(), **model.decoder.state_dict(), **further})
    rows = [[None if math.isnan(value) else value for value in row] for row in run.history]
    write_json(out / HISTORY, {"columns": list(COLUMNS), "rows": rows})
    content = {
        "backbone": run.config.backbone.to_json(),
        "pretraining": run.config.to_json(),
        "further_term": None if model.further is None else model.further.settings(),
        "kept": kept,
        "scans": scans,
        "seed": run.config.seed,
        "schedule": {**schedule.state(), "final_loss": run.history[-1][1] if run.history else None},
        "device": run.device.type,
        "precision": str(precision(run.device)).removeprefix("torch."),
        "versions": {"torch": torch.__version__},
    }
    write_model(out, "backbone", content | dict(card))
