"""Intensities: from Hounsfield units, or whatever an MR scanner makes, to numbers around 0 with deviation 1; and how
bright a scan is: its unit, its own scale, and the spread of its values, to compare it with other scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..json_record import JsonRecord

# Lungs are denser, and a window that holds nothing denser is no part of a patient.
AIR_HU = -950.0
_SAMPLES = 500_000
# Hounsfield units: air is -1000, and scanners pad with that or less.
_AIR = -500.0
_BODY = -500.0
SAMPLES = 50_000
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Normalization(JsonRecord):
    """How the values of one channel are brought to the network.

    Attributes:
        kind: "ct": clip to [low, high], subtract `mean`, divide by `std`, the same for all scans;
            "zscore": the same with the percentiles, mean and deviation of each scan itself.
        low: used by "ct" only, as are the others.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("ct", "zscore"):
            raise ValueError(f"the normalization {self.kind!r} is not known")

    @staticmethod
    def window(low: float, high: float) -> Normalization:
        """Clip to [low, high] (HU) and scale that to [0, 1]."""
        return Normalization("ct", low, high, mean=low, std=high - low)


def sampled(values: np.ndarray, most: int) -> np.ndarray:
    """Values drawn at random, the same ones each time: [min(m, most)] of an array of m values in any shape.

    Every n-th value would be from the same few columns or slices wherever n and the length of a row agree.
    """
    flat = values.reshape(-1)
    if flat.size <= most:
        return flat
    return np.asarray(flat[np.random.default_rng(0).integers(flat.size, size=most)])


def own_scale(values: np.ndarray) -> tuple[float, float, float, float]:
    """The scale of a scan from its own values: 0.5 and 99.5 percentile of the picture without its background, and mean
    and standard deviation within these.

    Args:
        values: some of the scan's, [m].
    """
    picture = values[values > _background(values)]
    if picture.size < 2:
        picture = values
    low, high = (float(edge) for edge in np.percentile(picture, (0.5, 99.5)))
    if low == high:
        low, high = float(picture.min()), float(picture.max())
    inside = np.clip(picture, low, high)
    return low, high, float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))


def normalize(values: np.ndarray, normalization: Normalization) -> None:
    """Bring the values of one channel to mean 0 and standard deviation 1, in place.

    Args:
        values: float32, any shape.
    """
    low, high, mean, std = normalization.low, normalization.high, normalization.mean, normalization.std
    if normalization.kind == "zscore":
        low, high, mean, std = own_scale(sampled(values, _SAMPLES))
    np.clip(values, low, high, out=values)
    values -= mean
    values /= std if std > 0 else 1.0


def air(normalization: Normalization) -> float | None:
    """The normalized value up to which a voxel of a CT is certainly air; None for other scans, whose air is unknown."""
    if normalization.kind != "ct":
        return None
    return (max(normalization.low, min(AIR_HU, normalization.high)) - normalization.mean) / normalization.std


def _background(values: np.ndarray) -> float:
    """The value of constant air or of the frame that a resampling left, which must not decide the scale of a scan."""
    distinct, counts = np.unique(values, return_counts=True)
    common = float(distinct[np.argmax(counts)])
    is_frame = counts.max() > 0.1 * values.size and common <= float(np.median(values))
    return common if is_frame else float(distinct[0])


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
