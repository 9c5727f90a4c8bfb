"""The training loop that the network peers share: nnU-Net's, on the same prepared scans and crops as ours."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from task import Outcome, Task
from torch import Tensor, nn

from glmae.devices import autocast, precision
from glmae.errors import GLMAEError
from glmae.scans.case import Case
from glmae.scans.cases import find_cases, find_images
from glmae.scans.classes import ClassTable
from glmae.scans.fingerprint import gather
from glmae.scans.geometry import Geometry
from glmae.scans.image import read_channels
from glmae.scans.lasting_plan import lasting_plan
from glmae.scans.measurement import measure_each
from glmae.scans.preparation import Preparation, prepare_image
from glmae.scans.restoring import interpolated_classes, restore_classes
from glmae.scans.store import ScanStore
from glmae.scans.written_image import write_labelmap
from glmae.schedule import Schedule, minutes_left
from glmae.segmentation.crops import CropBatch, CropSampler, LabeledScan, crops_device
from glmae.segmentation.finetune_config import CROP_VOXELS, SCAN_VOXELS, plan_crop
from glmae.segmentation.loss import segmentation_loss
from glmae.side_streams import batches_ahead
from peers.augmentation import SPATIAL, Intensity, mirrored
from peers.post_processing import PostProcessing

Size = tuple[int, int, int]

# The end of the names of methods whose results are processed further as ours are.
POST = "_post"


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """What can be tuned of a peer; the defaults are nnU-Net's.

    Attributes:
        optimizer: "sgd" (Nesterov momentum 0.99, rate falling as (1 - t) ** 0.9) or "adamw" (warm-up, then cosine).
        rate: peak learning rate; None: 0.01 for SGD, 1e-3 for AdamW.
        weight_decay: None: 3e-5 for SGD, 0.01 for AdamW.
        warm_up: share of the run in which AdamW's rate rises.
        batch: crops in a step.
        foreground: share of crops centered near a labeled voxel: one of nnU-Net's two.
        clip: largest gradient norm.
        mirror: axes (0, 1, 2) of mirroring. None by default: left and right organs of our sets are other classes.
        features: channels of the first level, None: the network's own default.
        token: the sides of a crop are multiples of this.
        voxels: the most voxels in a crop; None: as many as ours has on this device.
    """

    optimizer: str = "sgd"
    rate: float | None = None
    weight_decay: float | None = None
    warm_up: float = 0.05
    batch: int = 2
    foreground: float = 0.5
    clip: float = 12.0
    mirror: Sequence[int] = ()
    features: int | None = None
    token: int = 8
    voxels: int | None = None


@dataclass(frozen=True)
class Shape:
    """What a network is built for: input channels, output channels (background included), crop, spacing in mm."""

    channels: int
    outputs: int
    crop: Size
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class Prepared:
    """How the labeled scans were prepared, for what else is read in a run."""

    preparation: Preparation
    shape: Shape
    config: PeerConfig
    device: torch.device


class Companion(Protocol):
    """What a network is trained beside, such as a teacher; its `network` segments in the end."""

    network: nn.Module

    def loss(self, student: nn.Module, schedule: Schedule) -> Tensor:
        """A term that is added to the loss of the step."""

    def follow(self, student: nn.Module, steps: int) -> None:
        """Called after the step number `steps`, counted from 1."""


# Builds the network, which gives a list of logits, finest first. It may ask for a slightly different crop by `fit`.
Build = Callable[[Shape, PeerConfig], nn.Module]
Accompany = Callable[[Task, nn.Module, Prepared], Companion]


def run_network(
    task: Task,
    build: Build,
    config: PeerConfig,
    fit: Callable[[Shape], Size] | None = None,
    accompany: Accompany | None = None,
) -> Outcome:
    """Read, prepare, train for the minutes of the task, and segment its test scans.

    Args:
        task: what to do.
        build: makes the network.
        config: the peer's defaults; `task.settings` go before them.
        fit: rounds the planned crop to one that the network can halve often enough.
        accompany: makes what the network is trained beside; None: nothing.
    """
    began = time.monotonic()
    device = torch.device(task.device)
    config = dataclasses.replace(config, **task.settings)
    data = task.data
    cases, table = find_cases(data.images, data.labels, task.labeled)
    measured = measure_each(cases, table)
    fingerprint = gather(measured, table)
    plan = lasting_plan(measured, table, SCAN_VOXELS[device.type], task.labeled)
    preparation = plan.preparation
    store = ScanStore.prepare(Path(task.work) / "scans", cases, preparation, table)
    scans = [_scan(store, index, preparation) for index in range(len(store))]
    voxels = config.voxels or CROP_VOXELS[device.type]
    crop = plan_crop([scan.label.shape for scan in scans], (config.token,) * 3, voxels)
    shape = Shape(len(preparation.normalization), len(table) + 1, crop, preparation.spacing)
    if fit is not None:
        shape = dataclasses.replace(shape, crop=fit(shape))
    torch.manual_seed(task.seed)
    network = build(shape, config).to(device)
    place = crops_device(device)
    sampler = CropSampler(scans, shape.crop, config.batch, config.foreground, SPATIAL, task.seed, device=place)
    companion = None
    if accompany is not None:
        companion = accompany(task, network, Prepared(preparation, shape, config, device))
    schedule = Schedule(minutes=minutes_left(task.minutes, began, reserve=0.0))
    train(network, sampler, schedule, config, device, companion)
    network = network if companion is None else companion.network
    post = PostProcessing.of(scans, fingerprint, table) if task.method.endswith(POST) else None
    ready = time.monotonic()
    for case in find_images(task.test_images):
        _segment(case, network, shape.crop, preparation, table, device, task.predictions, post)
    return Outcome(seconds=ready - began, segment_seconds=time.monotonic() - ready, steps=schedule.done)


def fastest_batch(device: str) -> int:
    """Crops in a step where one crop is enough: in float32 a batch of one takes a slow way on CPUs (torch 2.13)."""
    return 2 if precision(torch.device(device)) == torch.float32 else 1


def train(
    network: nn.Module,
    sampler: CropSampler,
    schedule: Schedule,
    config: PeerConfig,
    device: torch.device,
    companion: Companion | None = None,
) -> None:
    """Train until the schedule is over."""
    optimizer = _optimizer(network, config)
    peak = optimizer.param_groups[0]["lr"]
    intensity = Intensity()
    network.train()

    def made(step: int) -> CropBatch:
        return _changed(sampler.batch(step), step, intensity, config)

    steps = itertools.count(schedule.done)
    batches = batches_ahead(made, steps, device) if device.type == "cuda" else map(made, steps)  # as ours
    while not schedule.finished:
        optimizer.param_groups[0]["lr"] = peak * _factor(schedule, config)
        batch = next(batches)
        with autocast(device):
            logits: list[Tensor] = network(batch.image.to(device))
        loss = segmentation_loss(logits, batch.target.to(device), batch.annotated.to(device))
        if companion is not None:
            loss = loss + companion.loss(network, schedule)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        if not torch.isfinite(loss):
            raise GLMAEError(f"training failed at step {schedule.done}: the loss is not finite; use a lower rate")
        schedule.step_done()
        if companion is not None:
            companion.follow(network, schedule.done)


def _changed(batch: CropBatch, step: int, intensity: Intensity, config: PeerConfig) -> CropBatch:
    """nnU-Net's intensity changes and mirroring, on crops that were rotated and scaled already."""
    images, targets = [], []
    for number, (image, target) in enumerate(zip(batch.image, batch.target, strict=True)):
        seed = step * config.batch + number
        image, target = mirrored(intensity(image, seed), target, config.mirror, seed)
        images.append(image)
        targets.append(target)
    return CropBatch(torch.stack(images), torch.stack(targets), batch.annotated)


def _optimizer(network: nn.Module, config: PeerConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        decay = 3e-5 if config.weight_decay is None else config.weight_decay
        return torch.optim.SGD(
            network.parameters(), lr=config.rate or 0.01, momentum=0.99, nesterov=True, weight_decay=decay
        )
    decay = 0.01 if config.weight_decay is None else config.weight_decay
    return torch.optim.AdamW(network.parameters(), lr=config.rate or 1e-3, weight_decay=decay)


def _factor(schedule: Schedule, config: PeerConfig) -> float:
    if config.optimizer == "sgd":
        return float(max(1e-3, 1 - schedule.fraction) ** 0.9)
    return schedule.rate(config.warm_up)


def _scan(store: ScanStore, index: int, preparation: Preparation) -> LabeledScan:
    label = store.label(index)
    assert label is not None
    return LabeledScan(store.image(index), label, store.annotated(index), preparation.spacing)


def _segment(
    case: Case,
    network: nn.Module,
    crop: Size,
    preparation: Preparation,
    table: ClassTable,
    device: torch.device,
    out: Path,
    post: PostProcessing | None,
) -> None:
    scan = read_channels(case.images)
    image, grid = prepare_image(scan, preparation)
    probabilities = class_probabilities(network, image, crop, device)
    if post is not None:
        probabilities = post.weighed(probabilities, image, grid.spacing)
    source = Geometry.of(scan[0])
    native = source.along(grid.direction)
    numbers = interpolated_classes([(0, probabilities)], grid, native)
    if post is not None:
        post.keep_largest_parts(numbers, native, grid, probabilities)
    labels = restore_classes(numbers, native, source, table.values)
    write_labelmap(out / f"{case.name}.nii.gz", labels, table)


@torch.inference_mode()
def class_probabilities(network: nn.Module, image: np.ndarray, crop: Size, device: torch.device) -> np.ndarray:
    """By MONAI's sliding window, Gaussian weights and half overlap: [n+1, I, J, K] float32, of sum 1."""
    network.eval()

    def predict(windows: Tensor) -> Tensor:
        with autocast(device):
            logits: Tensor = network(windows)[0]
        return torch.softmax(logits.float(), dim=1)

    inputs = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
    found: Any = sliding_window_inference(
        inputs,
        crop,
        4 if device.type == "cuda" else fastest_batch(device.type),
        predict,
        overlap=0.5,
        mode="gaussian",
        padding_mode="replicate",
        sw_device=device,
        device=torch.device("cpu"),
    )
    return np.asarray(found[0].numpy())
