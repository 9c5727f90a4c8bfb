"""How bright a scan is: its unit, its own scale, and the spread of its values, to compare it with other scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .normalization import own_scale, sampled

# Hounsfield units: air is -1000, and scanners pad with that or less.
_AIR = -500.0
_BODY = -500.0
SAMPLES = 50_000
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Brightness:
    """One channel of one scan.

    Attributes:
        hounsfield: whether the values look like Hounsfield units.
        body: some voxels, drawn at random; without the air where the unit is Hounsfield's.
        mean: of the picture (without its background), within its 0.5 and 99.5 percentiles.
        std: of the same; the scan's own scale is (value - mean) / std.
    """

    hounsfield: bool
    body: np.ndarray
    mean: float
    std: float

    @staticmethod
    def of(image: sitk.Image, kept: int = SAMPLES) -> Brightness:
        """Measure one channel, from at most `kept` of its voxels."""
        voxels = sitk.GetArrayViewFromImage(image)
        lowest, highest = float(voxels.min()), float(voxels.max())
        some = sampled(voxels, kept).astype(np.float32)
        # MR, PET and ultrasound start at or near 0; integers or a peak at air tell CT from, say, phase images.
        whole = bool(np.array_equal(some, np.rint(some)))
        air = float(np.mean((some > -1100) & (some < -900)))
        hounsfield = lowest <= _AIR and lowest >= -4096 and highest < 40_000 and (whole or air > 0.01)
        _, _, mean, std = own_scale(some)
        return Brightness(hounsfield, some[some > _BODY] if hounsfield else some, mean, std)

    def scaled(self, value: float, modality: str) -> float:
        """A value in Hounsfield units for "ct", else on the scan's own scale."""
        return value if modality == "ct" else (value - self.mean) / (self.std or 1.0)

    def quantiles(self, modality: str) -> tuple[float, ...]:
        """The values below which `QUANTILES` of the voxels lie, scaled."""
        values = self.body if len(self.body) else np.zeros(1)
        return tuple(self.scaled(float(value), modality) for value in np.quantile(values, QUANTILES))
