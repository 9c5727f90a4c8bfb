"""The state of a pre-training run, and one step of it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ..backend_cpu import guard_thin_maps
from ..checkpoint import load_checkpoint, named, optimizer_state, restore_optimizer, restore_weights, save_checkpoint
from ..devices import autocast
from ..errors import GLMAEError, RequestError
from ..schedule import Schedule
from .configuration import PretrainConfig
from .further_term import MakeTerm
from .gl_mae import GLMAE
from .views import Neighborhoods, cut_views

TERMS = ("total", "local_reconstruction", "global_reconstruction", "global_global", "global_local", "spread", "further")
COLUMNS = ("step", *TERMS, "rate", "momentum")


class Run:
    """Everything that changes from step to step.

    Args:
        schedule: how long.
        checkpoint: to go on from; None: from the start.

    Raises:
        ModelError: the checkpoint is damaged or does not fit.
        RequestError: the checkpoint belongs to another configuration.
    """

    def __init__(
        self,
        config: PretrainConfig,
        device: torch.device,
        schedule: Schedule,
        *,
        checkpoint: Path | None,
        further: MakeTerm | None = None,
    ) -> None:
        self.config, self.device, self.schedule = config, device, schedule
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = GLMAE(config, further)
        if config.weights.local_reconstruction == config.weights.global_reconstruction == 0:
            self.model.decoder.requires_grad_(False)
        self.model.to(device)
        if device.type == "cpu":
            guard_thin_maps(self.model)
        self.optimizer = _optimizer(self.model, config, device)
        self.history: list[list[float]] = []
        self._unread: list[tuple[list[float], Tensor]] = []
        if checkpoint is not None:
            self._restore(checkpoint)

    def step(self, batch: Neighborhoods) -> None:
        """One optimizer step; on a GPU it is only queued.

        Args:
            batch: in pinned memory if the device is a GPU.
        """
        config, model, schedule = self.config, self.model, self.schedule
        rate = config.learning_rate * schedule.rate(config.warm_up)
        momentum = 1 - (1 - config.ema_start) * (1 + math.cos(math.pi * schedule.fraction)) / 2
        frozen = schedule.fraction < config.frozen_prototypes
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        # 3D resampling is missing on some Apple GPUs; it is a small part of a step.
        batch = batch.to(torch.device("cpu") if self.device.type == "mps" else self.device)
        global_views = local_views = teacher_views = None
        globals_ = batch.global_boxes, batch.global_jitter, config.backbone.global_view
        if config.masks_globals or config.uses_teacher:
            global_views = cut_views(batch.regions, *globals_).to(self.device)
        if batch.anchors is not None:
            teacher_views = cut_views(batch.anchors, *globals_).to(self.device)
        if config.masks_locals:
            cut = cut_views(batch.regions, batch.local_boxes, batch.local_jitter, config.backbone.local_view)
            local_views = cut.to(self.device)

        further = [part.to(self.device) for part in batch.further]
        with autocast(self.device):
            losses = model(global_views, local_views, batch.generators, further, teacher_views)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        if model.student_projector is not None and frozen:
            model.student_projector.prototypes.grad = None
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        self.optimizer.step()
        model.update_teacher(momentum)

        terms = losses.terms()
        absent = torch.full((), math.nan, device=self.device)
        values = torch.stack([terms.get(name, absent).float() for name in TERMS])
        self._unread.append(([schedule.done + 1, rate, momentum], values))
        schedule.step_done()

    def read_losses(self) -> None:
        """Bring the losses of the last steps to the host.

        Raises:
            GLMAEError: one is not finite.
        """
        if not self._unread:
            return
        read = torch.stack([values for _, values in self._unread]).tolist()
        for ([step, rate, momentum], _), terms in zip(self._unread, read, strict=True):
            if not math.isfinite(terms[0]):
                raise GLMAEError(
                    f"pre-training broke down at step {step:.0f}: the loss is {terms[0]}; look for extreme "
                    "intensities in the scans, or lower the learning rate"
                )
            self.history.append([step, *terms, rate, momentum])
        self._unread.clear()

    def save(self, path: Path) -> None:
        """Write a checkpoint from which the run continues bit by bit; the losses must have been read."""
        moments, groups = optimizer_state(self.optimizer)
        history = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(COLUMNS))
        tensors = named("model.", self.model.state_dict()) | moments | {"history": history}
        save_checkpoint(
            path, tensors, {"config": self.config.to_json(), "schedule": self.schedule.state(), "groups": groups}
        )

    def _restore(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        if PretrainConfig.from_json(checkpoint.state["config"]) != self.config:
            raise RequestError(f"{path} was made with other settings; repeat them, or choose another folder")
        restore_weights(self.model, checkpoint.under("model."), path)
        restore_optimizer(self.optimizer, checkpoint.tensors, checkpoint.state["groups"])
        self.schedule.restore(checkpoint.state["schedule"])
        self.history = checkpoint.tensors["history"].tolist()


def _optimizer(model: GLMAE, config: PretrainConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            single = parameter.ndim < 2 or name.endswith(("cls_token", "mask_token"))
            (free if single else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=device.type in ("cpu", "cuda"))
