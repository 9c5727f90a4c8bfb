"""Fine-tuning: a few labelled scans in, a model folder out."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..backbone.presets import preset
from ..backbone.vision_transformer import VisionTransformer
from ..backbone.weights import SHIPPED, backbone_folder, load_backbone
from ..devices import autocast, choose_device
from ..errors import GLMAEError, RequestError, Stopped
from ..events import Events, silent
from ..pretraining.checkpoint import (
    load_checkpoint,
    named,
    optimiser_state,
    restore_optimiser,
    restore_weights,
    save_checkpoint,
)
from ..run_folder import RunFolder
from ..scans.cases import Case, alias_and_hash, find_cases, find_images
from ..scans.classes import ClassTable
from ..scans.fingerprint import measure
from ..scans.preparation import Preparation, plan_preparation
from ..scans.store import ScanStore
from ..schedule import Schedule
from .adaptation import adapt_backbone
from .configuration import PATCH_VOXELS, SCAN_VOXELS, FinetuneConfig, plan_patch
from .crops import CropSampler, LabelledScan
from .loss import segmentation_loss
from .model import Model, save_model
from .network import SegmentationNetwork

CHECKPOINT_SECONDS = 20.0
# Kept back from the user's minutes for writing the model.
RESERVE_SECONDS = 5.0


def finetune(
    *,
    images: Path,
    labels: Path,
    out: Path,
    cases: Sequence[str] | None = None,
    classes: Path | None = None,
    unlabelled: Path | None = None,
    backbone: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train a segmentation model; the same as `glmae finetune`.

    Args:
        images: folder of scans, see `scans.cases`.
        labels: folder of labels with the same names.
        out: the model folder, made here.
        cases: names to train on; None: all that have a label.
        classes: a classes.json; None: the labels' own names.
        unlabelled: folder or list of scans without labels to which the backbone is adapted first.
        backbone: name or folder of a pre-trained backbone, "none" to train from scratch; None: the shipped one, if any.
        steps: length of the run; with the same seed the weights are the same (on the CPU).
        minutes: instead of `steps`: the run ends, model written, after this time.
        seed: of everything random.
        device: auto, cpu, cuda or mps.
        resume: go on with an unfinished run in `out`.
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
    request = {
        "images": str(images),
        "labels": str(labels),
        "cases": None if cases is None else sorted(cases),
        "unlabelled": None if unlabelled is None else str(unlabelled),
        "backbone": backbone,
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
        "settings": dict(settings or {}),
    }
    run = RunFolder(out, request, resume)
    if run.finished:
        events.finished("finetune", model=str(out), message=f"{out} is finished already.")
        return Path(out)
    labelled, table = _labelled_cases(images, labels, cases, classes)
    others = [] if unlabelled is None else find_images([unlabelled])
    source = _backbone(backbone)
    chosen, reason = choose_device(device)
    events.started("finetune", cases=len(labelled), classes=list(table.names), device=str(chosen))
    events.info(reason)
    fingerprint = measure(labelled, table, events)
    preparation = plan_preparation(fingerprint, SCAN_VOXELS[chosen.type])
    run.begin()
    try:
        if others:
            share = float((settings or {}).get("adaptation", FinetuneConfig.adaptation))
            source = adapt_backbone(
                run.unfinished / "backbone",
                others,
                preparation,
                preset=str((settings or {}).get("preset", FinetuneConfig.preset)),
                source=source,
                steps=None if steps is None else max(1, round(share * steps)),
                minutes=None if minutes is None else share * minutes,
                seed=seed,
                device=device,
                events=events,
                should_stop=should_stop,
            )
        store = ScanStore.prepare(run.unfinished / "scans", labelled, preparation, table, events)
        scans = _labelled_scans(store, preparation)
        network, config = _network(scans, preparation, table, source, chosen, seed, settings or {}, events)
        schedule = Schedule(steps, None if minutes is None else _minutes_left(minutes, began))
        training = _Training(network, config, scans, schedule, chosen, pretrained=source is not None)
        training.run(run.checkpoint, events, should_stop)
        model = Model(training.averaged_network(), config, preparation, table)
        save_model(run.out, model, _details(labelled, schedule, source, seed, fingerprint.to_json()))
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
        message=f"Model written to {out} after {schedule.done} steps.",
    )
    return Path(out)


class _Training:
    """Network, optimiser and averaged weights of one run, and the steps on them."""

    def __init__(
        self,
        network: SegmentationNetwork,
        config: FinetuneConfig,
        scans: Sequence[LabelledScan],
        schedule: Schedule,
        device: torch.device,
        pretrained: bool,
    ) -> None:
        self.network, self.config, self.schedule, self.device = network.to(device), config, schedule, device
        self.sampler = CropSampler(
            scans, config.patch, config.batch, config.foreground, config.augmentation, config.seed
        )
        self.optimiser = torch.optim.AdamW(_parameter_groups(network, config, pretrained))
        self._peak_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.averaged: AveragedModel | None = None
        self._decay: float | None = None

    def run(self, checkpoint: Path, events: Events, should_stop: Callable[[], bool]) -> None:
        """Train until the schedule is over.

        Raises:
            Stopped: `should_stop` said so; the state is in `checkpoint`.
            GLMAEError: the loss is not finite any more.
        """
        if checkpoint.exists():
            self._restore(checkpoint)
            events.info(f"Going on after step {self.schedule.done}.")
        saved = time.monotonic()
        while not self.schedule.finished:
            if should_stop():
                self._save(checkpoint)
                raise Stopped(f"stopped after step {self.schedule.done}; add --resume to go on")
            loss = self.step()
            if not math.isfinite(loss):
                raise GLMAEError(
                    f"training failed at step {self.schedule.done}: the loss is not finite; "
                    "check the scans for extreme values, or try another --seed"
                )
            self.schedule.step_done()
            total = self.schedule.steps or self.schedule.done + 1
            events.progress("finetune", self.schedule.done, total, self.schedule.seconds_left, loss=round(loss, 4))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(checkpoint)
                saved = time.monotonic()

    def step(self) -> float:
        """One step; returns the loss."""
        factor = self.schedule.rate(self.config.warm_up)
        for group, peak in zip(self.optimiser.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * factor
        batch = self.sampler.batch(self.schedule.done)
        self.network.train()
        with autocast(self.device):
            logits = self.network(batch.image.to(self.device))
        # Classes count alike at first, so that a tiny one is found, and voxels at the end, so that its size is right.
        balance = 1 - self.schedule.fraction
        loss = segmentation_loss(logits, batch.target.to(self.device), batch.annotated.to(self.device), balance)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimiser.step()
        self._average()
        return float(loss.detach())

    def averaged_network(self) -> SegmentationNetwork:
        """The network with the averaged weights."""
        if self.averaged is not None:
            self.network.load_state_dict(self.averaged.module.state_dict())
        return self.network.eval()

    def _average(self) -> None:
        """Update the running mean of the weights; it starts late, when the weights are worth averaging."""
        if self.averaged is None:
            if self.schedule.fraction < 1 - 3 * self.config.average:
                return
            remembered = max(1.0, self.config.average * (self.schedule.steps or self.schedule.done + 1))
            self._begin_average(1 - 1 / (1 + remembered))
        assert self.averaged is not None
        self.averaged.update_parameters(self.network)

    def _begin_average(self, decay: float) -> AveragedModel:
        self._decay = decay
        self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        return self.averaged

    def _save(self, path: Path) -> None:
        tensors, groups = optimiser_state(self.optimiser)
        tensors |= named("network.", self.network.state_dict())
        if self.averaged is not None:
            tensors |= named("averaged.", self.averaged.state_dict())
        save_checkpoint(path, tensors, {"schedule": self.schedule.state(), "groups": groups, "decay": self._decay})

    def _restore(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        restore_weights(self.network, checkpoint.under("network."), path)
        restore_optimiser(self.optimiser, checkpoint.tensors, checkpoint.state["groups"])
        self.schedule.restore(checkpoint.state["schedule"])
        if checkpoint.state["decay"] is not None:
            restore_weights(self._begin_average(checkpoint.state["decay"]), checkpoint.under("averaged."), path)


def _labelled_cases(
    images: Path, labels: Path, names: Sequence[str] | None, classes: Path | None
) -> tuple[list[Case], ClassTable]:
    found, table = find_cases(images, labels, names, classes)
    labelled = [case for case in found if case.label is not None]
    if not labelled:
        raise RequestError(f"{labels}: no label belongs to a scan in {images}; a scan and its label have the same name")
    return labelled, table


def _labelled_scans(store: ScanStore, preparation: Preparation) -> list[LabelledScan]:
    scans = []
    for index in range(len(store)):
        label = store.label(index)
        assert label is not None
        scans.append(LabelledScan(store.image(index), label, store.annotated(index), preparation.spacing))
    return scans


def _network(
    scans: Sequence[LabelledScan],
    preparation: Preparation,
    table: ClassTable,
    source: Path | None,
    device: torch.device,
    seed: int,
    settings: Mapping[str, Any],
    events: Events,
) -> tuple[SegmentationNetwork, FinetuneConfig]:
    channels = len(preparation.normalisation)
    pretrained: VisionTransformer | None = None
    if source is not None:
        pretrained = load_backbone(source, channels=channels, events=events)
        backbone = pretrained.config
    else:
        backbone = preset(str(settings.get("preset", FinetuneConfig.preset)), channels=channels)
    patch = plan_patch([scan.label.shape for scan in scans], backbone.patch_size, PATCH_VOXELS[device.type])
    config = dataclasses.replace(FinetuneConfig(patch=patch, preset=backbone.name, seed=seed), **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SegmentationNetwork(backbone, len(table.classes), config.head)
    if pretrained is not None:
        network.backbone.load_state_dict(pretrained.state_dict())
    origin = "from scratch" if source is None else f"pre-trained ({source.name})"
    spacing = " x ".join(f"{side:.2f}" for side in preparation.spacing)
    events.info(
        f"Backbone {backbone.name}, {origin}; spacing {spacing} mm; crops of {' x '.join(map(str, patch))} voxels."
    )
    return network, config


def _parameter_groups(network: SegmentationNetwork, config: FinetuneConfig, pretrained: bool) -> list[dict[str, Any]]:
    backbone_rate = config.pretrained_rate if pretrained else config.backbone_rate
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = backbone_rate if name.startswith("backbone.") else config.rate
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def _details(
    cases: Sequence[Case], schedule: Schedule, source: Path | None, seed: int, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    training = [alias_and_hash(case, number) for number, case in enumerate(cases, start=1)]
    return {
        "schedule": schedule.state(),
        "seed": seed,
        "pretrained": None if source is None else source.name,
        "scores": None,
        "training_cases": [{"alias": alias, "sha256": digest} for alias, digest in training],
        "fingerprint": fingerprint,
    }


def _minutes_left(minutes: float, began: float) -> float:
    seconds = 60 * minutes - (time.monotonic() - began) - RESERVE_SECONDS
    return max(1.0, seconds) / 60


def _backbone(name: str | None) -> Path | None:
    """Folder of the backbone to start from; None for none."""
    if name == "none" or (name is None and not (SHIPPED / FinetuneConfig.preset).is_dir()):
        return None
    return backbone_folder(name or FinetuneConfig.preset)
