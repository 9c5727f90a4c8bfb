"""Fine-tuning: a few labelled scans in, a model folder out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..backbone.weights import WEIGHTS
from ..devices import choose_device
from ..errors import RequestError, Stopped
from ..events import Events, checked, silent
from ..run_folder import RunFolder
from ..scans.cases import Case, alias_and_hash, find_cases
from ..scans.classes import ClassTable
from ..scans.fingerprint import gather, measure_each
from ..scans.label_check import warn_of_labels
from ..scans.lasting_plan import in_order, lasting_plan
from ..scans.preparation import Preparation
from ..scans.store import ScanStore
from ..schedule import Schedule
from .finetune_config import SCAN_VOXELS, FinetuneConfig
from .instant_start import InstantStart, labelled_scans, starting_backbone, starting_network
from .labelled_cases import LabelledCases
from .map_store import MapStore
from .memory_ladder import MemoryLadder
from .model import Model, load_model, save_model
from .scored_training import train_and_score
from .training import Training


def finetune(
    *,
    images: Path,
    labels: Path,
    out: Path,
    cases: Sequence[str] | None = None,
    classes: Path | None = None,
    backbone: str | None = None,
    start: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    folds: int = 0,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    finish: bool = False,
    preparation: Preparation | None = None,
    settings: Mapping[str, Any] | None = None,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train a segmentation model; the same as `glmae finetune`.

    Args:
        images: folder of scans, see `scans.cases`.
        labels: folder of labels with the same names.
        out: the model folder, made here.
        cases: names to train on; None: all that have a label. The scans are planned for in this order, see
            `lasting_plan`.
        classes: a classes.json; None: the labels' own names.
        backbone: name or folder of a pre-trained backbone, "none" to train from scratch; None: the shipped one, if any.
        start: an earlier model instead: its backbone, trunk, preparation and crop size are gone on with, and the head
            is fitted anew to all labels; its classes must be among the new ones.
        steps: length of the run; with the same seed the weights are the same (on the CPU).
        minutes: instead of `steps`: the run ends, model written, after this time.
        folds: number of further trainings, each of the same length and without a part of the scans, on which it is
            then scored; from 2 to the number of scans, 0 for none. With `minutes` they share the time with the model.
        seed: of everything random.
        device: auto, cpu, cuda or mps.
        resume: go on with an unfinished run in `out`.
        finish: take no further step in an unfinished run, but write the model of what it has learnt so far.
        preparation: spacing and intensities; None: planned from the scans.
        settings: fields of `FinetuneConfig` to use instead of the planned ones.
        events: where to report to.
        should_stop: asked after every step; True stops the run, resumable.

    Returns:
        `out`.

    Raises:
        RequestError: the request or the data are wrong; nothing was created.
        StorageError: the model could not be written.
        Stopped: the user stopped; `resume` goes on.
    """
    began = time.monotonic()
    events = events or silent()
    if (steps is None) == (minutes is None):
        raise RequestError("give either the number of steps or the minutes")
    if start is not None and backbone is not None:
        raise RequestError("an earlier model brings its own backbone; leave --backbone or --from out")
    FinetuneConfig(crop=(16, 16, 16)).changed(settings or {})  # refuses what cannot be, before reading scans
    labelled, table = _labelled_cases(images, labels, cases, classes, events)
    earlier = None if start is None else _earlier(start, table)
    if folds and not 2 <= folds <= len(labelled):
        raise RequestError(f"--folds {folds}: choose a number from 2 to that of the labeled scans ({len(labelled)})")
    request = {
        "images": str(images),
        "labels": str(labels),
        "preparation": None if preparation is None else preparation.to_json(),
        "cases": None if cases is None else list(cases),
        "classes": table.to_json(),
        "labelled": {case.name: _digest(case.label) for case in labelled if case.label is not None},
        "backbone": backbone,
        "from": None if start is None else _digest(start / WEIGHTS),
        "steps": steps,
        "minutes": minutes,
        "folds": folds,
        "seed": seed,
        "settings": dict(settings or {}),
    }
    run = RunFolder(out, request, resume or finish)
    if run.finished:
        events.finished("finetune", model=str(out), message=f"{out} is finished already.")
        return Path(out)

    if finish and not run.checkpoint.exists():
        raise RequestError(f"{out}: nothing was learnt yet that could be kept; go on with --resume, without --finish")

    def check() -> None:
        if should_stop():
            raise Stopped("stopped while the scans were looked at; add --resume to go on")

    source = None if earlier is not None else starting_backbone(backbone)
    chosen, reason = choose_device(device)
    events.started("finetune", cases=len(labelled), classes=list(table.names), device=str(chosen))
    events.info(reason)
    looking = checked(events, check)
    warn_of_labels(labelled, table, looking)
    measured = measure_each(labelled, table, looking)
    fingerprint = gather(measured, table)
    plan = lasting_plan(in_order(measured, cases), table, SCAN_VOXELS[chosen.type])
    if preparation is None and earlier is not None:
        preparation = earlier.preparation
    preparation = preparation or plan.preparation
    origin = {"pretrained": None if source is None else source.name, "from": request["from"]}
    began -= run.seconds_spent
    run.begin()
    try:
        store = ScanStore.prepare(
            run.unfinished / "scans", labelled, preparation, table, events, should_stop=should_stop
        )
        scans = labelled_scans(store, preparation)
        shapes = [scan.label.shape for scan, name in zip(scans, store.names, strict=True) if name in plan.names]
        build, config = starting_network(
            shapes, preparation, table, earlier or source, chosen, seed, settings or {}, events
        )
        network = build()
        memory = MemoryLadder(config, network.backbone.config.patch_size)
        memory.plan(network, chosen, events)

        maps = MapStore(run.unfinished / "scans")
        instant = InstantStart(build, config, preparation.normalisation, store, scans, maps, chosen)

        def train(indices: Sequence[int], length: Schedule) -> Training:
            begun = instant.begin(indices, check)
            subset = [scans[index] for index in indices]
            return Training(begun.network, config, subset, length, chosen, begun.fits, memory)

        run.note_seconds(time.monotonic() - began)
        cases_of_run = LabelledCases(labelled, store, table, preparation, fingerprint=fingerprint)
        result = train_and_score(
            run,
            cases_of_run,
            train,
            folds=folds,
            steps=steps,
            minutes=minutes,
            seed=seed,
            began=began,
            finish=finish,
            events=events,
            should_stop=should_stop,
        )
        training, schedule = result.training, result.training.schedule
        model = cases_of_run.model(training.averaged_network(), training)
        details = _details(labelled, schedule, origin, seed, fingerprint.to_json())
        save_model(run.out, model, details | {"scores": result.scores})
    except Stopped:
        raise
    except BaseException:
        run.abandon()
        raise
    run.end()
    events.finished(
        "finetune",
        model=str(out),
        steps=schedule.done,
        seconds=round(time.monotonic() - began, 1),
        message=f"Model written to {out} after {schedule.done} steps{_but(result.scores)}.",
    )
    return Path(out)


def _labelled_cases(
    images: Path, labels: Path, names: Sequence[str] | None, classes: Path | None, events: Events
) -> tuple[list[Case], ClassTable]:
    found, table = find_cases(images, labels, names, classes, events)
    labelled = [case for case in found if case.label is not None]
    if not labelled:
        raise RequestError(f"{labels}: no label belongs to a scan in {images}; a scan and its label have the same name")
    return labelled, table


def _earlier(folder: Path, table: ClassTable) -> Model:
    model = load_model(folder, torch.device("cpu"))
    unknown = [name for name in model.classes.names if name not in table.names]
    if unknown:
        raise RequestError(
            f"{folder}: its structures {', '.join(unknown)} are not among those of the labels "
            f"({', '.join(table.names)}); draw them, too, or train without --from"
        )
    return model


def _digest(file: Path) -> str:
    """SHA-256 of a file: a run is not gone on with when a label or the model that it began with was changed."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _details(
    cases: Sequence[Case],
    schedule: Schedule,
    origin: Mapping[str, Any],
    seed: int,
    fingerprint: Mapping[str, Any],
) -> dict[str, Any]:
    training = [alias_and_hash(case, number) for number, case in enumerate(cases, start=1)]
    return {
        "schedule": schedule.state(),
        "seed": seed,
        **origin,
        "training_cases": [{"alias": alias, "sha256": digest} for alias, digest in training],
        "fingerprint": fingerprint,
    }


def _but(scores: Mapping[str, Any]) -> str:
    return f", but {scores['failure']}" if scores["failure"] else ""
