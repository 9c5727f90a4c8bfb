"""The training loop of fine-tuning: crops, loss, optimizer, averaged weights, checkpoints."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..backend_cpu import guard_thin_maps, pays, train_channels_last
from ..checkpoint import (
    load_checkpoint,
    named,
    optimizer_state,
    restore_optimizer,
    restore_weights,
    save_checkpoint,
)
from ..devices import autocast, is_out_of_memory, release
from ..errors import GLMAEError, Stopped
from ..events import silent
from ..job import Job
from ..schedule import Schedule
from ..side_streams import batches_ahead
from .crops import CropBatch, CropSampler, LabeledScan, crops_device
from .finetune_config import FinetuneConfig
from .location_prior import NEAR, LocationPrior
from .loss import segmentation_loss
from .memory_ladder import MemoryLadder, MemoryUse, recompute
from .network import SegmentationNetwork

CHECKPOINT_SECONDS = 20.0
# Steps one after another whose loss or gradient is not finite.
MOST_SKIPPED = 20


class Training:
    """Network, optimizer and averaged weights of one run, and the steps on them.

    Args:
        gentle: whether the network is a start that fits its scans already, see `FinetuneConfig.gentle`.
        memory: how little of it is used.

    Attributes:
        location: where the classes lie in its scans; None if that is not used.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        config: FinetuneConfig,
        scans: Sequence[LabeledScan],
        schedule: Schedule,
        device: torch.device,
        gentle: bool = False,
        memory: MemoryLadder | None = None,
    ) -> None:
        self.network, self.config, self.schedule, self.device = network.to(device), config, schedule, device
        if device.type == "cpu":
            guard_thin_maps(self.network)
        self._channels_last = pays(device)
        if self._channels_last:
            train_channels_last(self.network)
        self.memory = memory or MemoryLadder(config, network.backbone.config.patch_size)
        self.scans, self._events = scans, silent()
        self.location = LocationPrior.of(scans) if config.location else None
        self._near: list[np.ndarray] | None = None
        if self.location is not None:
            self._near = [self.location.on(scan.image, scan.spacing).near(NEAR) for scan in scans]
        self._coming: Generator[CropBatch, None, None] | None = None  # from the next step on
        self.optimizer = torch.optim.AdamW(_parameter_groups(network, config, gentle))
        self._peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.averaged: AveragedModel | None = None
        self._decay: float | None = None
        self._start = None
        if gentle:
            self._start = {name: entry.detach().clone() for name, entry in self.network.state_dict().items()}
        self._ended = False
        self._skipped = 0
        self._whole = True  # no step has changed a part of the state

    def run(
        self,
        checkpoint: Path,
        job: Job,
        between_steps: Callable[[Training], None] = lambda training: None,
        stage: str = "finetune",
        **fields: Any,
    ) -> None:
        """Train until the schedule is over.

        Args:
            checkpoint: where the state is kept; gone on with if it is there.
            job: asked after every step whether to stop.
            between_steps: called before every step; leaves the training as it is.

        Raises:
            Stopped: the user wants to stop; the state is in `checkpoint`.
            GLMAEError: the loss stays not finite, or memory is not enough; then the state is in `checkpoint`.
        """
        self._events = job.events
        if checkpoint.exists():
            self.restore(checkpoint)
            job.events.info(f"Going on after step {self.schedule.done}.")
        saved = float("-inf")  # at once after the first step, so that whoever ends the process by force can go on
        while not self.schedule.finished:
            between_steps(self)
            if job.should_stop():
                if self.schedule.done:
                    self._save(checkpoint)
                raise Stopped(f"stopped after step {self.schedule.done}; {job.go_on}")
            try:
                loss = self.step()
            except GLMAEError:
                self._save(checkpoint)
                raise
            except KeyboardInterrupt:  # asked again, in the midst of a long step: the state is that of the last one
                if self._whole and self.schedule.done:
                    self._save(checkpoint)
                raise
            if self._skipped > MOST_SKIPPED:
                raise GLMAEError(
                    f"training failed at step {self.schedule.done}: the loss is not finite; "
                    "check the scans for extreme values, or try another --seed"
                )
            self.schedule.step_done()
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(checkpoint)
                saved = time.monotonic()
            total = self.schedule.steps or self.schedule.done + 1
            left = self.schedule.seconds_left
            shown = {"loss": round(loss, 4)} if math.isfinite(loss) else {}
            job.events.progress(stage, self.schedule.done, total, left, **shown, **fields)
        self._save(checkpoint)

    def end(self) -> None:
        """Let go of what only further steps would need: other trainings follow."""
        self.optimizer.state.clear()
        self.optimizer.zero_grad(set_to_none=True)
        self._drop_batches()

    def step(self) -> float:
        """One step; returns the loss."""
        factor = self.schedule.rate(self.config.warm_up)
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * factor
        while True:
            self._adopt(self.memory.use)
            try:
                loss = self._update()
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Not in the except clause: there the error still holds the tensors of its frames.
            self._take_less_memory()
        self._average()
        return loss

    def _update(self) -> float:
        self._whole = True
        self._coming = self._coming or self._batches()
        batch = next(self._coming)
        self.network.train()
        self.optimizer.zero_grad()
        loss = self._gradients(batch)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        # Half precision overflows at times, in small crops above all; one such step must not spoil all weights.
        self._skipped = 0 if bool((norm + loss.detach()).isfinite()) else self._skipped + 1
        self._whole = False
        if not self._skipped:
            self.optimizer.step()
        return float(loss.detach())

    def _gradients(self, batch: CropBatch) -> Tensor:
        """Loss and gradients of a batch, in parts if it does not fit as a whole.

        The loss cannot be taken apart, its Dice being that of the whole batch. So the parts' logits are computed
        first, without keeping anything; the loss gives their gradients, with which each part is then gone through
        again. The result is that of the whole batch.
        """
        image = batch.image.to(self.device)
        crops = self.memory.use.crops
        if crops >= len(image):
            loss = self._loss(self._logits(image), batch)
            loss.backward()
            return loss
        parts = image.split(crops)
        with torch.no_grad():
            levels = zip(*(self._logits(part) for part in parts), strict=True)
            logits = [torch.cat(level).requires_grad_() for level in levels]
        loss = self._loss(logits, batch)
        loss.backward()
        for number, part in enumerate(parts):
            gradients = [level.grad.split(crops)[number] for level in logits if level.grad is not None]
            torch.autograd.backward(self._logits(part), gradients)
        return loss

    def _logits(self, image: Tensor) -> list[Tensor]:
        if self._channels_last:
            image = image.contiguous(memory_format=torch.channels_last_3d)
        with autocast(self.device, half=self.memory.use.lean):
            logits: list[Tensor] = self.network(image)
        return logits

    def _loss(self, logits: list[Tensor], batch: CropBatch) -> Tensor:
        # Classes count alike at first, so that a tiny one is found, and voxels at the end, so that its size is right.
        balance = 1 - self.schedule.fraction
        return segmentation_loss(logits, batch.target.to(self.device), batch.annotated.to(self.device), balance)

    def _batches(self) -> Generator[CropBatch, None, None]:
        """The batches, from the next step on."""
        config = self.config
        sampler = CropSampler(
            self.scans,
            config.crop,
            config.batch,
            config.foreground,
            config.augmentation,
            config.seed,
            self._near,
            crops_device(self.device),
        )
        steps = itertools.count(self.schedule.done)
        if self.device.type == "cpu":  # threads would only take turns with the network
            return (sampler.batch(step) for step in steps)
        return batches_ahead(sampler.batch, steps, self.device)

    def _drop_batches(self) -> None:
        if self._coming is not None:
            self._coming.close()
        self._coming = None

    def _adopt(self, use: MemoryUse) -> None:
        if use.crop != self.config.crop:
            self.config = replace(self.config, crop=use.crop)
            self._drop_batches()
        if use.lean:
            recompute(self.network)

    def _take_less_memory(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._drop_batches()  # the step is taken again
        release(self.device)
        if self.memory.last:
            raise GLMAEError(
                f"there is not enough memory even for {self.memory.use.describe()}; "
                "close other programs and go on with --resume, or choose another --device"
            )
        self.memory.level += 1
        self._events.warning(
            f"Memory was not enough; from step {self.schedule.done + 1} on, training with {self.memory.use.describe()}."
        )

    def averaged_network(self) -> SegmentationNetwork:
        """The network with the weights that are kept: the average of the last steps' and, after gentle training, of
        a share of the start's, the more the fewer scans and steps there are (weights between start and end, Wortsman et
        al., CVPR 2022). No step follows.
        """
        if not self._ended:
            end = (self.network if self.averaged is None else self.averaged.module).state_dict()
            if self._start is not None:
                taken = 1 - self.config.keep / len(self.scans)
                taken *= min(1.0, self.schedule.done / max(1, self.config.settled))
                end = {name: torch.lerp(entry, self._start[name], 1 - taken) for name, entry in end.items()}
            self.network.load_state_dict(end)
            self._ended = True
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
        tensors, groups = optimizer_state(self.optimizer)
        tensors |= named("network.", self.network.state_dict())
        if self.averaged is not None:
            tensors |= named("averaged.", self.averaged.state_dict())
        state = {"schedule": self.schedule.state(), "groups": groups, "decay": self._decay, "memory": self.memory.level}
        save_checkpoint(path, tensors, state)

    def restore(self, path: Path) -> None:
        """Take up the state of an interrupted training.

        Raises:
            ModelError: `path` is missing, damaged, or of another network.
        """
        checkpoint = load_checkpoint(path)
        restore_weights(self.network, checkpoint.under("network."), path)
        restore_optimizer(self.optimizer, checkpoint.tensors, checkpoint.state["groups"])
        for parameter, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape == parameter.shape:  # in the parameter's order in memory, as before
                    moments[name] = torch.empty_like(parameter.data).copy_(moment)
        self.schedule.restore(checkpoint.state["schedule"])
        self._drop_batches()
        self.memory.level = max(self.memory.level, checkpoint.state["memory"])
        if checkpoint.state["decay"] is not None:
            restore_weights(self._begin_average(checkpoint.state["decay"]), checkpoint.under("averaged."), path)


def _parameter_groups(network: SegmentationNetwork, config: FinetuneConfig, gentle: bool) -> list[dict[str, Any]]:
    factors = config.gentle if gentle else (1.0, 1.0, 1.0)
    head, trunk, backbone = (
        rate * factor
        for rate, factor in zip((config.rate, config.trunk_rate, config.backbone_rate), factors, strict=True)
    )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        rate = backbone if name.startswith("backbone.") else trunk if name.startswith("head.trunk.") else head
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]
