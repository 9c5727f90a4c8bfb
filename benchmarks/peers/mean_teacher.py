"""DynUNet with a mean teacher (Tarvainen and Valpola, arXiv 1703.01780), which uses the scans without labels, too."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from task import Outcome, Task
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from glmae.devices import autocast
from glmae.scans.cases import find_images
from glmae.scans.classes import IGNORE
from glmae.scans.store import ScanStore
from glmae.schedule import Schedule
from glmae.segmentation.crops import CropSampler, LabeledScan, crops_device
from peers.augmentation import SPATIAL, Intensity, mirrored
from peers.dynunet import PlannedUNet, fitted_patch, tuned
from peers.training import PeerConfig, Prepared, run_network


@dataclass(frozen=True, kw_only=True)
class MeanTeacherConfig(PeerConfig):
    """The peer's settings, and the teacher's.

    Attributes:
        unlabelled: crops without labels in a step, of any scan of the pool.
        consistency: weight of the squared difference of the probabilities of student and teacher, once it has risen.
        ramp_up: share of the run in which that weight rises as exp(-5 (1 - t)^2).
        decay: of the teacher's running average; in the first steps it is shorter.
    """

    unlabelled: int = 2
    consistency: float = 1.0
    ramp_up: float = 0.4
    decay: float = 0.99


def run(task: Task) -> Outcome:
    return run_network(task, PlannedUNet, MeanTeacherConfig(**tuned(task.device)), fitted_patch, MeanTeacher)


class MeanTeacher:
    """A running average of the student, which segments in the end; until then the student is to agree with it.

    Both see the same crop, rotated and scaled; the student's intensities are changed as nnU-Net does.
    """

    def __init__(self, task: Task, student: nn.Module, prepared: Prepared) -> None:
        assert isinstance(prepared.config, MeanTeacherConfig)
        self.config, self.device = prepared.config, prepared.device
        self.network = copy.deepcopy(student).eval().requires_grad_(False)
        self._intensity = Intensity()
        pool = find_images([task.data.image(name) for name in task.pool])
        store = ScanStore.prepare(Path(task.work) / "scans", pool, prepared.preparation, None, read_failures="skip")
        scans = [unlabelled_scan(store, index, prepared) for index in range(len(store))]
        shape, place = prepared.shape, crops_device(self.device)
        self._sampler = CropSampler(scans, shape.crop, self.config.unlabelled, 0.0, SPATIAL, task.seed, device=place)

    def loss(self, student: nn.Module, schedule: Schedule) -> Tensor:
        """How far the student is from the teacher on this step's crops without labels, weighted."""
        crops = self._sampler.batch(schedule.done)
        plain, changed = [], []
        for number, (image, target) in enumerate(zip(crops.image, crops.target, strict=True)):
            seed = schedule.done * self.config.unlabelled + number
            image, _ = mirrored(image, target, self.config.mirror, seed)
            plain.append(image)
            changed.append(self._intensity(image, seed))
        with torch.no_grad(), autocast(self.device):
            wanted = torch.softmax(self.network(torch.stack(plain).to(self.device))[0].float(), dim=1)
        with autocast(self.device):
            logits = student(torch.stack(changed).to(self.device))[0]
        difference = F.mse_loss(torch.softmax(logits.float(), dim=1), wanted)
        return ramped(self.config, schedule.fraction) * difference

    def follow(self, student: nn.Module, steps: int) -> None:
        """After the student's step number `steps`, counted from 1."""
        decay = min(1 - 1 / (steps + 1), self.config.decay)
        average = get_ema_multi_avg_fn(decay)
        with torch.no_grad():
            average(list(self.network.parameters()), list(student.parameters()), 0)


def ramped(config: MeanTeacherConfig, fraction: float) -> float:
    """Weight of the consistency when `fraction` of the run is over."""
    return config.consistency * math.exp(-5 * (1 - min(1.0, fraction / config.ramp_up)) ** 2)


def unlabelled_scan(store: ScanStore, index: int, prepared: Prepared) -> LabeledScan:
    """A scan of the pool, none of whose voxels has a label."""
    image = store.image(index)
    label = np.broadcast_to(np.uint8(IGNORE), image.shape[1:])  # takes no memory
    return LabeledScan(image, label, (False,) * (prepared.shape.outputs - 1), prepared.preparation.spacing)
