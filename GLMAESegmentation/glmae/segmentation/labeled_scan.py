"""A labeled scan as a training reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabeledScan:
    """One scan prepared for the network.

    Attributes:
        image: [C, I, J, K], any float type; may be memory-mapped.
        label: [I, J, K] uint8, see `scans.labels`.
        annotated: for each class, whether it was drawn in this scan.
        spacing: voxel size in mm, [I, J, K].
    """

    image: np.ndarray
    label: np.ndarray
    annotated: tuple[bool, ...]
    spacing: tuple[float, float, float]
