"""The pre-training job: prepared scans in, a backbone folder out; resumable at every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.weights import DECODER_NAMES, PROJECTION, adapted, check_names, write_weights
from ..devices import autocast, choose_device, precision
from ..errors import GLMAEError, RequestError, Stopped
from ..events import Events, silent
from ..files import write_json
from ..model_folder import WEIGHTS, write_model
from ..run_folder import RunFolder
from ..schedule import Schedule
from .checkpoint import load_checkpoint, named, optimiser_state, restore_optimiser, restore_weights, save_checkpoint
from .configuration import PretrainConfig
from .gl_mae import GLMAE
from .views import Neighbourhoods, Scans, cut_views, read_neighbourhoods

HISTORY = "history.json"
TERMS = ("total", "local_reconstruction", "global_reconstruction", "global_global", "global_local")
COLUMNS = ("step", *TERMS, "rate", "momentum")
# Reading a loss waits for the device; on a GPU that is done once in so many steps.
READ_EVERY = {"cpu": 1, "cuda": 20, "mps": 20}
EVENT_SECONDS = 0.5


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
    initial_weights: Mapping[str, Tensor] | None = None,
    card: Mapping[str, Any] | None = None,
    events: Events | None = None,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Pre-train a backbone.

    Args:
        config: what to train, and how.
        scans: prepared scans [C, I, J, K].
        out: folder to make, or a run folder that the caller opened.
        steps: length of the run; exclusive with `minutes`.
        minutes: time for the run; the number of steps follows from the first ones.
        device: auto, cpu, cuda or mps.
        resume: go on with an unfinished run in `out`.
        should_stop: asked after each step.
        initial_weights: encoder (and decoder, where there) to start from, by name.
        card: further entries of model.json (preparation, training cases).
        events: where progress goes.
        checkpoint_seconds: time between checkpoints.

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
    if isinstance(out, RunFolder):
        folder = out
    else:
        folder = RunFolder(out, {"config": config.to_json(), "steps": steps, "minutes": minutes}, resume)
    if folder.finished:
        events.info(f"{folder.out} is finished already.")
        return folder.out
    chosen, reason = choose_device(device)
    events.info(reason)
    try:
        folder.begin()
        run = Run(config, chosen, Schedule(steps, minutes), initial_weights, events)
        if folder.checkpoint.exists():
            run.restore(folder.checkpoint)
            events.info(f"Going on after step {run.schedule.done}.")
        _train(run, scans, folder, should_stop, checkpoint_seconds)
        _write_backbone(run, folder.out, len(scans), card or {})
    except BaseException:
        if folder is not out:
            folder.abandon()
        raise
    folder.end()
    return folder.out


class Run:
    """Everything that changes from step to step.

    Args:
        config: what to train.
        device: where.
        schedule: how long.
        initial_weights: encoder and decoder to start from, by name.
        events: where progress goes.
    """

    def __init__(
        self,
        config: PretrainConfig,
        device: torch.device,
        schedule: Schedule,
        initial_weights: Mapping[str, Tensor] | None,
        events: Events,
    ) -> None:
        self.config, self.device, self.schedule, self.events = config, device, schedule, events
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = GLMAE(config)
        if initial_weights is not None:
            _start_from(self.model, initial_weights, events)
        self.model.to(device)
        self.optimiser = _optimiser(self.model, config, device)
        self.history: list[list[float]] = []
        self._unread: list[tuple[list[float], Tensor]] = []

    def step(self, batch: Neighbourhoods) -> None:
        """One optimiser step."""
        config, schedule = self.config, self.schedule
        rate = config.learning_rate * schedule.rate(config.warm_up)
        momentum = 1 - (1 - config.ema_start) * (1 + math.cos(math.pi * schedule.fraction)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = rate

        # 3D resampling is missing on some Apple GPUs; it is a small part of a step.
        cutter = torch.device("cpu") if self.device.type == "mps" else self.device
        regions = batch.regions.to(cutter, non_blocking=True)
        sides = config.backbone.global_view, config.backbone.local_view
        global_views = local_views = None
        if config.masks_globals or config.uses_teacher:
            global_views = cut_views(regions, batch.global_boxes, batch.global_jitter, sides[0]).to(self.device)
        if config.masks_locals:
            local_views = cut_views(regions, batch.local_boxes, batch.local_jitter, sides[1]).to(self.device)

        with autocast(self.device):
            losses = self.model(global_views, local_views, batch.generators)
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        if self.model.student_projector is not None and schedule.fraction < config.frozen_prototypes:
            self.model.student_projector.prototypes.grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        self.model.update_teacher(momentum)

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
        for (step, rate, momentum), values in self._unread:
            terms = values.tolist()
            if not math.isfinite(terms[0]):
                raise GLMAEError(
                    f"pre-training broke down at step {step:.0f}: the loss is {terms[0]}; look for extreme "
                    "intensities in the scans, or lower the learning rate"
                )
            self.history.append([step, *terms, rate, momentum])
        self._unread.clear()

    def save(self, path: Path) -> None:
        """Write a checkpoint from which the run continues bit by bit."""
        self.read_losses()
        moments, groups = optimiser_state(self.optimiser)
        history = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(COLUMNS))
        tensors = named("model.", self.model.state_dict()) | moments | {"history": history}
        save_checkpoint(
            path, tensors, {"config": self.config.to_json(), "schedule": self.schedule.state(), "groups": groups}
        )

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ModelError: it is damaged.
            RequestError: it belongs to another configuration.
        """
        checkpoint = load_checkpoint(path)
        if PretrainConfig.from_json(checkpoint.state["config"]) != self.config:
            raise RequestError(f"{path} was made with other settings; repeat them, or choose another folder")
        restore_weights(self.model, checkpoint.under("model."), path)
        restore_optimiser(self.optimiser, checkpoint.tensors, checkpoint.state["groups"])
        self.schedule.restore(checkpoint.state["schedule"])
        self.history = checkpoint.tensors["history"].tolist()


def _train(
    run: Run, scans: Scans, folder: RunFolder, should_stop: Callable[[], bool], checkpoint_seconds: float
) -> None:
    """Step until the schedule ends."""
    run.model.train()
    schedule, events = run.schedule, run.events
    saved = reported = time.monotonic()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="views") as reader:

        def read(step: int) -> Future[Neighbourhoods]:
            return reader.submit(_read, run.config, scans, step, run.device)

        coming = read(schedule.done)
        while not schedule.finished:
            batch = coming.result()
            coming = read(schedule.done + 1)
            run.step(batch)
            if schedule.done % READ_EVERY[run.device.type] == 0 or schedule.finished:
                run.read_losses()
            now = time.monotonic()
            if schedule.steps is not None and run.history and (now - reported > EVENT_SECONDS or schedule.finished):
                events.progress(
                    "pre-training", schedule.done, schedule.steps, schedule.seconds_left, loss=run.history[-1][1]
                )
                reported = now
            stopping = should_stop()
            if stopping or now - saved >= checkpoint_seconds:
                run.save(folder.checkpoint)
                saved = time.monotonic()
            if stopping and not schedule.finished:
                raise Stopped(f"stopped after step {schedule.done}; continue with --resume")


def _read(config: PretrainConfig, scans: Scans, step: int, device: torch.device) -> Neighbourhoods:
    batch = read_neighbourhoods(config, scans, step)
    return batch.pinned() if device.type == "cuda" else batch


def _check_scans(config: PretrainConfig, scans: Scans) -> None:
    if len(scans) == 0:
        raise RequestError("there are no scans to pre-train on; name a folder that holds some")
    for index in range(len(scans)):
        shape = scans.image(index).shape
        if len(shape) != 4 or shape[0] != config.backbone.channels:
            raise RequestError(
                f"scan {index + 1} has shape {list(shape)}, not [{config.backbone.channels}, I, J, K]; "
                "all scans need the same channels"
            )


def _start_from(model: GLMAE, weights: Mapping[str, Tensor], events: Events) -> None:
    """Load an encoder, fitted to the channels of the scans, and the decoder if it is there and fits."""
    config, origin = model.config.backbone, "the starting weights"
    encoder = {name: tensor.float() for name, tensor in weights.items() if not name.startswith(DECODER_NAMES)}
    if PROJECTION in encoder:
        source = replace(config, channels=encoder[PROJECTION].shape[1])
        _, encoder = adapted(encoder, source, config.channels, config.patch_size, events, origin)
    check_names(encoder, model.student.state_dict(), origin)
    model.student.load_state_dict(encoder)
    decoder = {name: tensor.float() for name, tensor in weights.items() if name.startswith(DECODER_NAMES)}
    shapes = {name: tensor.shape for name, tensor in model.decoder.state_dict().items()}
    if {name: tensor.shape for name, tensor in decoder.items()} == shapes:
        model.decoder.load_state_dict(decoder)
    else:
        events.info("The starting weights hold no fitting decoder; it is trained from scratch.")
    model.reset_teacher()


def _optimiser(model: GLMAE, config: PretrainConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            single = parameter.ndim < 2 or name.endswith(("cls_token", "mask_token"))
            (free if single else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=device.type in ("cpu", "cuda"))


def _write_backbone(run: Run, out: Path, scans: int, card: Mapping[str, Any]) -> None:
    """Write the result; model.json comes last, so that a folder that has it is complete."""
    model, schedule = run.model, run.schedule
    kept = "teacher" if run.config.output == "teacher" and model.teacher is not None else "student"
    encoder = model.teacher if kept == "teacher" and model.teacher is not None else model.student
    write_weights(out / WEIGHTS, {**encoder.state_dict(), **model.decoder.state_dict()})
    rows = [[None if math.isnan(value) else value for value in row] for row in run.history]
    write_json(out / HISTORY, {"columns": list(COLUMNS), "rows": rows})
    content = {
        "backbone": run.config.backbone.to_json(),
        "pretraining": run.config.to_json(),
        "kept": kept,
        "scans": scans,
        "seed": run.config.seed,
        "schedule": {**schedule.state(), "final_loss": run.history[-1][1] if run.history else None},
        "device": run.device.type,
        "precision": str(precision(run.device)).removeprefix("torch."),
        "versions": {"torch": torch.__version__},
    }
    write_model(out, "backbone", content | dict(card))
