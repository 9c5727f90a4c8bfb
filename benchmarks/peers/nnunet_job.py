"""Runs in nnU-Net's environment: `nnunet_job.py JOB.json OUTCOME.json`; written by nnunet.py, imports nothing of ours.

nnU-Net trains 1000 epochs of 250 steps with a rate that falls as (1 - t) ** 0.9. Here t is the share of the seconds
that are over, so the whole schedule fits any budget. Its validation after each epoch, which changes no weights, and its
checkpoints are left out: they would only take time from it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess_dataset,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

CONFIGURATION = "3d_fullres"


def main(asked: Path, answer: Path) -> None:
    job = json.loads(asked.read_text(encoding="utf-8"))
    began = time.monotonic()
    torch.set_num_threads(job["threads"])
    random.seed(job["seed"])
    np.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    trainer = prepared_trainer(job)
    prepared = time.monotonic() - began
    steps = train(trainer, began + job["seconds"])
    ready = time.monotonic()
    predict(trainer, job)
    outcome = {
        "seconds": ready - began,
        "segment_seconds": time.monotonic() - ready,
        "steps": steps,
        "prepared_seconds": prepared,
        "peak_device_mb": torch.cuda.max_memory_allocated() / 1e6 if job["device"] == "cuda" else None,
        "batch": trainer.configuration_manager.batch_size,
        "patch": [int(side) for side in trainer.configuration_manager.patch_size],
    }
    answer.write_text(json.dumps(outcome), encoding="utf-8")
    print(outcome)


class Threads:
    """Stands in for multiprocessing's "spawn" context: a few scans are not worth processes that import torch again."""

    Pool = ThreadPool


def prepared_trainer(job: dict[str, Any]) -> nnUNetTrainer:
    """nnU-Net's fingerprint, plan and preprocessing of all labeled scans, and its trainer for them."""
    spawning = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: Threads  # type: ignore[assignment]
    try:
        extract_fingerprints([1], num_processes=1, show_progress_bar=False)
        plans_name = plan_experiments([1], job["planner"], gpu_memory_target_in_gb=job["memory_gb"])
        preprocess_dataset(1, plans_name, (CONFIGURATION,), (1,), show_progress_bar=False)
    finally:
        multiprocessing.get_context = spawning
    data_set = Path(job["data_set"])
    plans_file = Path(job["preprocessed"]) / data_set.name / f"{plans_name}.json"
    plans = json.loads(plans_file.read_text(encoding="utf-8")) | {"continue_training": False}
    description = json.loads((data_set / "dataset.json").read_text(encoding="utf-8"))
    kind = nnUNetTrainer if job["mirror"] else nnUNetTrainerNoMirroring
    trainer = kind(plans, CONFIGURATION, "all", description, torch.device(job["device"]))  # every scan trains
    trainer.initialize()
    if job["bfloat16"]:
        in_bfloat16(trainer.network)
    return trainer


def in_bfloat16(network: torch.nn.Module) -> None:
    """On CPUs nnU-Net computes in float32; where bfloat16 is faster the other methods use it, so it gets it as well."""
    forward = network.forward

    def autocast_forward(x: torch.Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            result = forward(x)
        return [level.float() for level in result] if isinstance(result, (list, tuple)) else result.float()

    network.forward = autocast_forward  # type: ignore[method-assign]


def train(trainer: nnUNetTrainer, deadline: float) -> int:
    """nnU-Net's own steps on its own batches until the deadline; returns their number."""
    if trainer.device.type == "cpu":
        # Worker processes for the augmentation would take the cores from the training itself.
        os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    batches, _ = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    began, steps = time.monotonic(), 0
    slowest = 0.0
    while steps == 0 or time.monotonic() + slowest < deadline:
        now = time.monotonic()
        spent = min(0.999, (now - began) / max(1e-3, deadline - began))
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - spent) ** 0.9
        trainer.train_step(next(batches))
        steps += 1
        slowest = max(0.9 * slowest, time.monotonic() - now)
    return steps


def predict(trainer: nnUNetTrainer, job: dict[str, Any]) -> None:
    """Segment the test scans as nnU-Net does by default: half-overlapping windows, mirrored where it trained so."""
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(
        use_mirroring=job["mirror"],
        perform_everything_on_device=job["device"] == "cuda",
        device=trainer.device,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    Path(job["results"]).mkdir(parents=True, exist_ok=True)
    targets = [str(Path(job["results"]) / f"scan_{number:03d}") for number in range(len(job["test"]))]
    predictor.predict_from_files_sequential(job["test"], targets)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
