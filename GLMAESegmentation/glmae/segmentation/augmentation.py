"""Random changes of a crop: one spatial resampling, then intensity changes.

Mirroring is left out on purpose: a mirrored left kidney is a right kidney, and most names do not tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandHistogramShift,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from monai.utils import convert_to_tensor
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

from ..json_record import JsonRecord


@dataclass(frozen=True)
class AugmentationConfig(JsonRecord):
    """Strength of the random changes. Probabilities are per crop.

    Attributes:
        rotation: largest angle about each axis, radians.
        scale: crops are magnified by a factor from 1 / (1 + scale) to 1 + scale, per axis a tenth of it independently.
        spatial: probability of rotation and scaling.
        elastic: probability of a smooth random displacement.
        displacement: its standard deviation at the control points, as a fraction of their distance.
        control_points: control points per axis.
        intensity: probability of each intensity change (noise, blur, contrast, ...).
    """

    rotation: float = 0.35
    scale: float = 0.3
    spatial: float = 0.6
    elastic: float = 0.4
    displacement: float = 0.12
    control_points: int = 5
    intensity: float = 0.2


@dataclass(frozen=True)
class SpatialChange:
    """Where a crop's voxels come from: x_source = matrix @ (x - middle of the crop) + displacement + center.

    Attributes:
        matrix: [3, 3], from crop voxels to source voxels.
        displacement: [3, m, m, m] at control points spread over the crop, source voxels; None for none.
    """

    matrix: Tensor
    displacement: Tensor | None

    def to(self, device: torch.device) -> SpatialChange:
        """The same on `device`."""
        return SpatialChange(
            self.matrix.to(device), None if self.displacement is None else self.displacement.to(device)
        )


IDENTITY = SpatialChange(torch.eye(3), None)


def random_spatial_change(
    config: AugmentationConfig,
    crop: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
) -> SpatialChange:
    """Draw rotation, scale and elastic displacement for one crop.

    Args:
        crop: size of the crop in voxels, [I, J, K].
        spacing: voxel size in mm, [I, J, K]: rotations are rigid in millimeters, not in voxels.
    """
    matrix = np.eye(3)
    if rng.random() < config.spatial:
        to_mm = np.diag(spacing)
        zoom = np.exp(rng.uniform(-1, 1) * math.log1p(config.scale) + rng.uniform(-0.1, 0.1, 3) * config.scale)
        angles = rng.uniform(-config.rotation, config.rotation, 3)
        matrix = np.linalg.inv(to_mm) @ Rotation.from_euler("xyz", angles).as_matrix() @ np.diag(zoom) @ to_mm
    displacement = None
    if rng.random() < config.elastic:
        points = config.control_points
        distance = np.asarray(crop, dtype=float) / (points - 1)
        strength = config.displacement * rng.random()
        displacement = rng.normal(size=(3, points, points, points)) * (strength * distance.min() * 2)[..., None]
    return SpatialChange(
        torch.from_numpy(matrix).float(), None if displacement is None else torch.from_numpy(displacement).float()
    )


def source_coordinates(change: SpatialChange, center: Tensor, crop: tuple[int, int, int]) -> Tensor:
    """Source voxel coordinates of each crop voxel, [I, J, K, 3], computed where `center` and `change` are.

    Args:
        center: source voxel under the middle of the crop, [3].
    """
    axes = [torch.arange(side, dtype=torch.float32, device=center.device) - (side - 1) / 2 for side in crop]
    # Axis by axis: several times faster than a product of matrices.
    i, j, k = (axis[:, None] * change.matrix[:, number] for number, axis in enumerate(axes))  # [side, 3] each
    coordinates = i[:, None, None] + j[:, None] + (k + center)  # [I, J, K, 3]
    if change.displacement is not None:
        smooth = F.interpolate(change.displacement[None], size=crop, mode="trilinear", align_corners=True)[0]
        coordinates = coordinates + smooth.permute(1, 2, 3, 0)
    return coordinates


def source_box(change: SpatialChange, center: Tensor, crop: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """The lowest and the highest source coordinates of a crop, [3] each.

    Displacements are interpolated linearly, so the extremes lie at the control points, or without any at the corners.
    """
    points = 2 if change.displacement is None else change.displacement.shape[1]
    axes = [torch.linspace(-1, 1, points) * ((side - 1) / 2) for side in crop]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    found = (grid @ change.matrix.T + center).flatten(0, 2)  # [points ** 3, 3]
    if change.displacement is not None:
        found = found + change.displacement.flatten(1).T
    return found.amin(dim=0), found.amax(dim=0)


# What differs by less, in standard deviations of a scan, is one value and rounding: air, padding.
ONE_VALUE = 1e-3


class IntensityChange:
    """MONAI's random intensity transforms for one normalized crop, seeded per call; safe in several threads."""

    def __init__(self, config: AugmentationConfig) -> None:
        self._probability = config.intensity

    def __call__(self, crop: Tensor, seed: int) -> Tensor:
        """Change a crop [C, I, J, K]; each channel on its own, as contrasts differ between channels.

        A channel of one value is left as it is: changes that divide by its range would make NaN of it.
        """
        transforms = self._transforms()
        transforms.set_random_state(seed=seed)
        return torch.stack([_changed(channel, transforms) for channel in crop]).float()

    def _transforms(self) -> Compose:
        """New ones, since they hold what they draw."""
        p, sigma = self._probability, (0.4, 1.0)
        return Compose(
            [
                RandGaussianNoise(prob=p, std=0.15),
                RandGaussianSmooth(prob=p, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
                RandScaleIntensity(factors=0.3, prob=p),
                RandShiftIntensity(offsets=0.3, prob=p),
                RandAdjustContrast(prob=p, gamma=(0.7, 1.5), retain_stats=True),
                RandSimulateLowResolution(prob=p, zoom_range=(0.5, 1.0)),
                RandBiasField(prob=p, coeff_range=(0.0, 0.2)),
                RandHistogramShift(prob=p, num_control_points=(5, 10)),
            ]
        )


def _changed(channel: Tensor, transforms: Compose) -> Tensor:
    if bool(channel.max() - channel.min() < ONE_VALUE):
        return channel
    # As a plain tensor: MONAI's own, passed through a network, makes its layers copy what they give.
    changed: Tensor = convert_to_tensor(transforms(channel[None]), track_meta=False)[0]
    # A change on the way may have left one value, too.
    return changed if bool(changed.isfinite().all()) else channel
