"""The paper's own pre-training; research/README.md tells what of it is the authors' and what our choice."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from glmae.pretraining.configuration import LossWeights
from glmae.scans.normalization import Normalization
from glmae.scans.preparation import Preparation

PRESET = "base"
BATCH = 8
EPOCHS, WARM_UP_EPOCHS = 1600, 40
# HU: the scan is cut to the box of what is above the lower one, clipped to both, and scaled to [0, 1].
WINDOW = (-1000.0, 1000.0)
SPACING = (1.5, 1.5, 1.5)


def paper_preparation() -> Preparation:
    """Spacing, foreground and intensities of the paper's CT, whatever the scans are like."""
    return Preparation(SPACING, (Normalization.window(*WINDOW),), foreground=WINDOW[0])


def paper_settings(preset: str = PRESET, batch: int = BATCH) -> dict[str, Any]:
    """The fields of `PretrainConfig` that the paper's run changes.

    Args:
        preset: base is the paper's; a smaller one trains a smaller network and smaller views by the same rules.
        batch: volumes in a step; the rate grows with it.
    """
    return {
        "weights": asdict(LossWeights()),
        "output": "teacher",
        "global_views": 2,
        "local_views": 8,
        "mask_ratio": 0.6,
        "normalize_patches": True,
        "intensity_jitter": 0.0,
        "prototypes": 65536,
        "hidden": 2048,
        "bottleneck": 256,
        "learning_rate": 1.5e-4 * batch / 256,
        "betas": [0.9, 0.95],
        "weight_decay": 0.05,
        "warm_up": WARM_UP_EPOCHS / EPOCHS,
        "frozen_prototypes": 1 / EPOCHS,
        "batch": batch,
    }


def paper_steps(volumes: int, batch: int = BATCH) -> int:
    """Steps in the paper's 1600 epochs over so many volumes."""
    return EPOCHS * math.ceil(volumes / batch)
