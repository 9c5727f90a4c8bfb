"""Fine-tuning: a few labeled scans in, a model folder out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..backbone.weights import WEIGHTS
from ..errors import RequestError
from ..events import Events, silent
from ..files import sha256
from ..job import Job, begin
from ..model_folder import read_model
from ..run_folder import RunFolder
from ..scans.case import Case
from ..scans.cases import find_cases
from ..scans.classes import ClassTable
from ..scans.fingerprint import gather
from ..scans.label_check import warn_of_labels
from ..scans.lasting_plan import lasting_plan
from ..scans.preparation import Preparation
from ..scans.store import ScanStore
from ..schedule import Schedule
from .cross_validation import Trainer
from .finetune_config import SCAN_VOXELS, FinetuneConfig
from .instant_start import InstantStart, plan_start, starting_backbone
from .labeled_cases import LabeledCases
from .map_store import MapStore
from .memory_ladder import MemoryLadder
from .model import Model, load_model, save_model
from .scored_training import RunPlan, train_and_score
from .training import Training


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning gave.

    Attributes:
        scores: `scores` of its model.json: what was measured, and `failure`, a sentence if the training failed.
    """

    folder: Path
    steps: int
    scores: Mapping[str, Any]

    @staticmethod
    def read(folder: Path) -> Finetuned:
        """What an earlier call gave.

        Raises:
            ModelError: the folder holds no model.
        """
        content = read_model(folder, "segmentation").content
        return Finetuned(folder, content["schedule"]["done"], content["scores"])

    def tell(self, seconds: float, events: Events) -> None:
        """Report it, and the seconds that it took."""
        failure = self.scores["failure"]
        message = f"Model written to {self.folder} after {self.steps} steps{f', but {failure}' if failure else ''}."
        events.finished("finetune", model=str(self.folder), steps=self.steps, seconds=seconds, message=message)


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
) -> Finetuned:
    """Train a segmentation model; the same as `glmae finetune`. Arguments that are not listed: see `glmae.finetune`.

    Args:
        cases: names to train on; None: all that have a label. The scans are planned for in this order, see
            `lasting_plan`.
        start: an earlier model: its backbone, trunk, preparation and crop size are gone on with, and the head is fitted
            anew to all labels; its classes must be among the new ones.
        folds: from 2 to the number of scans, 0 for none. With `minutes` they share the time with the model.
        finish: take no further step in an unfinished run, but write the model of what it has learned so far.
        preparation: spacing and intensities; None: planned from the scans.
        should_stop: asked after every step; True stops the run, resumable.

    Returns:
        The model, which is in `out`.

    Raises:
        RequestError: the request or the data are wrong; nothing was created.
        StorageError: the model could not be written.
        Stopped: the user stopped; `resume` goes on.
    """
    began, events, settings = time.monotonic(), events or silent(), dict(settings or {})
    FinetuneConfig(crop=(16, 16, 16)).changed(settings)  # refuses what cannot be, before reading scans
    found, table = find_cases(images, labels, cases, classes, events)
    labeled = [case for case in found if case.label is not None]
    plan = RunPlan(steps, minutes, folds, seed, finish)
    plan.check(len(labeled))
    source = _source(backbone, start, table)
    request = _request(images, labels, cases, labeled, table, preparation, backbone, start, plan, settings)
    run = RunFolder(out, request, resume or finish)
    if run.finished:
        events.finished("finetune", model=str(out), message=f"{out} is finished already.")
        return Finetuned.read(run.out)
    if finish and not run.checkpoint.exists():
        raise RequestError(f"{out}: nothing was learned yet that could be kept; go on with --resume, without --finish")
    words = {"cases": len(labeled), "classes": list(table.names)}
    job = begin("finetune", device, events, should_stop, "add --resume to go on", **words)
    looked = warn_of_labels(labeled, table, events, job.check)
    lasting = lasting_plan(looked.measured, table, SCAN_VOXELS[job.device.type], cases)
    if preparation is None and isinstance(source, Model):
        preparation = source.preparation
    lasting = replace(lasting, preparation=preparation or lasting.preparation)
    fingerprint = gather(looked.measured, table)
    with run.begun(began) as began:
        store = ScanStore.prepare(run.scans, labeled, lasting.preparation, table, events, should_stop=should_stop)
        known = LabeledCases(labeled, store, table, lasting.preparation, fingerprint=fingerprint)
        maps = MapStore(run.scans)
        instant = plan_start(source, store, lasting, table, maps, job.device, settings, seed, events)
        events.info(_chosen(source, instant.config, lasting.preparation))
        train = _trainer(instant, job, run.scans)
        training, scores = train_and_score(run, known, train, plan, began, job)
        learned = {"schedule": training.schedule.state(), "fingerprint": fingerprint.to_json(), "scores": scores}
        # The license of an earlier model's backbone holds for what follows from it.
        pretrained = source.pretrained if isinstance(source, Model) else source and source.name
        origin = {"pretrained": pretrained, "from": request["from"]}
        aliases = [{"alias": f"case-{n:02d}", "sha256": looked.digests[case.name]} for n, case in enumerate(labeled, 1)]
        details = {"seed": seed, "training_cases": aliases} | origin | learned
        save_model(run.out, known.model(training.averaged_network(), training), details)
    result = Finetuned(run.out, training.schedule.done, scores)
    result.tell(round(time.monotonic() - began, 1), events)
    return result


def _source(backbone: str | None, start: Path | None, classes: ClassTable) -> Model | Path | None:
    """An earlier model, or the folder of a backbone; None: the network starts from scratch."""
    if start is None:
        return starting_backbone(backbone)
    if backbone is not None:
        raise RequestError("an earlier model brings its own backbone; leave --backbone or --from out")
    model = load_model(start, torch.device("cpu"))
    unknown = [name for name in model.classes.names if name not in classes.names]
    if unknown:
        raise RequestError(
            f"{start}: its structures {', '.join(unknown)} are not among those of the labels "
            f"({', '.join(classes.names)}); draw them, too, or train without --from"
        )
    return model


def _request(
    images: Path,
    labels: Path,
    cases: Sequence[str] | None,
    labeled: Sequence[Case],
    table: ClassTable,
    preparation: Preparation | None,
    backbone: str | None,
    start: Path | None,
    plan: RunPlan,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides the result: a run is gone on with only while all of it is the same."""
    return {
        "images": str(images),
        "labels": str(labels),
        "preparation": None if preparation is None else preparation.to_json(),
        "cases": None if cases is None else list(cases),
        "classes": table.to_json(),
        "labeled": {case.name: sha256(case.label) for case in labeled if case.label is not None},
        "backbone": backbone,
        "from": None if start is None else sha256(start / WEIGHTS),
        "settings": settings,
        **{name: value for name, value in vars(plan).items() if name != "finish"},
    }


def _chosen(source: Model | Path | None, config: FinetuneConfig, preparation: Preparation) -> str:
    origin = "from scratch" if source is None else "as learned so far"
    if isinstance(source, Path):
        origin = f"pre-trained ({source.name})"
    spacing = " x ".join(f"{side:.2f}" for side in preparation.spacing)
    sides = " x ".join(map(str, config.crop))
    return f"Backbone {config.preset}, {origin}; spacing {spacing} mm; crops of {sides} voxels."


def _trainer(instant: InstantStart, job: Job, folder: Path) -> Trainer:
    """What makes a training on some of the scans, from a network whose head is fitted to them."""
    network = instant.build()
    memory = MemoryLadder(instant.config, network.backbone.config.patch_size)
    memory.plan(network, job.device, job.events)

    def train(indices: Sequence[int], length: Schedule) -> Training:
        begun = instant.begin(indices, job.check, folder)
        subset = [instant.scans[index] for index in indices]
        return Training(begun.network, instant.config, subset, length, job.device, begun.fits, memory)

    return train
