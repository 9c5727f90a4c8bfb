"""A few steps before the run that are thrown away: how long a step takes here, and a window."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch

from .sliding_window import OVERLAP, class_probabilities
from .training import Training

# The first step allocates memory and chooses kernels; it is not counted.
STEPS = 2
# Reading the scan, and bringing the classes to its grid, beside the windows.
SECONDS_A_SCAN = 0.5


@dataclass(frozen=True)
class Trial:
    """What was measured.

    Attributes:
        step_seconds: of a training step.
        window_seconds: of a window at inference.
    """

    step_seconds: float
    window_seconds: float

    def scan_seconds(self, shape: Sequence[int], patch: Sequence[int]) -> float:
        """Estimate for segmenting and scoring a prepared scan [I, J, K], a little more than likely."""
        windows = prod(max(1, ceil(s / (p * (1 - OVERLAP)) - 1)) for s, p in zip(shape, patch, strict=True))
        return 1.3 * windows * self.window_seconds + SECONDS_A_SCAN


def run_trial(training: Training) -> Trial:
    """Measure on a training that is used for nothing else."""
    for _ in range(STEPS):
        began = time.monotonic()
        training.step()
        step_seconds = time.monotonic() - began
    image = torch.zeros((training.network.backbone.config.channels, *training.config.patch)).numpy()
    for _ in range(2):  # the first one also brings the network into the layout that it is used in
        began = time.monotonic()
        class_probabilities(training.network, image, training.config.patch, training.device)
    return Trial(step_seconds, time.monotonic() - began)
