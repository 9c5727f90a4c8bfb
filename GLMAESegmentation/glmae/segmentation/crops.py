"""Training crops from the labeled scans: where they are cut, how every class gets its share, and random changes.

The changes are one spatial resampling, then intensities. Mirroring is left out on purpose: a mirrored left kidney is a
right kidney, and most names do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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

from ..devices import CPU
from ..scans.classes import IGNORE
from ..scans.store import LabeledScan
from .finetune_config import AugmentationConfig

# Enough positions to draw crop centers from, and few enough to keep for hundreds of classes.
POSITIONS_PER_CLASS = 4096
# The share of the background crops that lie near the classes.
CLASSES_NEAR = 0.75
# What differs by less, in standard deviations of a scan, is one value and rounding: air, padding.
ONE_VALUE = 1e-3


@dataclass(frozen=True)
class CropBatch:
    """Crops for one step: image [B, C, I, J, K] float32, target [B, I, J, K] uint8, annotated [B, n] bool."""

    image: Tensor
    target: Tensor
    annotated: Tensor


class CropSampler:
    """Draws batches of augmented crops. Everything random at step t follows from (seed, t) alone.

    Args:
        crop: size of a crop in voxels, [I, J, K].
        foreground: share of the crops that are centered near a voxel of a class; the class is drawn first, each class
            with the same probability however small it is, then a scan that holds it, then a voxel. Of the others, a
            quarter lies anywhere and the rest `near`; in a partly labeled scan, near a voxel of which something is
            known.
        augmentation: None for plain crops.
        near: for each scan, voxels [m, 3] of places where classes are looked for; None or empty: anywhere.
        device: where crops are resampled and changed. The scans stay where they are.
    """

    def __init__(
        self,
        scans: Sequence[LabeledScan],
        crop: tuple[int, int, int],
        batch: int,
        foreground: float,
        augmentation: AugmentationConfig | None,
        seed: int,
        near: Sequence[np.ndarray] | None = None,
        device: torch.device = CPU,
    ) -> None:
        self._device = device
        self._scans, self._crop_size, self._batch, self._foreground, self._seed = scans, crop, batch, foreground, seed
        self._near_classes, self._augmentation = near, augmentation
        self._positions = [_class_positions(scan, seed) for scan in scans]
        self._known = [_known_positions(scan, seed) for scan in scans]
        self._usable = [i for i, known in enumerate(self._known) if known is None or len(known)]
        if not self._usable:  # scans without any label, for methods that learn from images alone
            self._usable, self._known = list(range(len(scans))), [None] * len(scans)
        classes = len(scans[0].annotated)
        self._holders = [[i for i, held in enumerate(self._positions) if c in held] for c in range(1, classes + 1)]
        self._drawable = [c for c in range(1, classes + 1) if self._holders[c - 1]]

    def batch(self, step: int) -> CropBatch:
        """The batch of one step."""
        first = step * self._batch
        crops = [self._crop(np.random.default_rng((self._seed, n)), n) for n in range(first, first + self._batch)]
        return CropBatch(
            image=torch.stack([image for image, _, _ in crops]),
            target=torch.stack([target for _, target, _ in crops]),
            annotated=torch.tensor([self._scans[scan].annotated for _, _, scan in crops], dtype=torch.bool),
        )

    def _crop(self, rng: np.random.Generator, number: int) -> tuple[Tensor, Tensor, int]:
        index, center = self._place(rng, number)
        scan = self._scans[index]
        change = IDENTITY
        if self._augmentation is not None:
            change = random_spatial_change(self._augmentation, self._crop_size, scan.spacing, rng)
        image, target = cut(scan, center, self._crop_size, change, self._device)
        if self._augmentation is not None:
            image = change_intensities(image, self._augmentation.intensity, int(rng.integers(2**31)))
        return image, target, index

    def _place(self, rng: np.random.Generator, number: int) -> tuple[int, np.ndarray]:
        """Scan and center (source voxels) of the crop with this running number."""
        # Golden-ratio steps spread the share evenly over the crops: 2 of any 3, not "each with 67 %".
        if self._drawable and (number * 0.6180339887498949) % 1.0 < self._foreground:
            wanted = self._drawable[rng.integers(len(self._drawable))]
            holders = self._holders[wanted - 1]
            index = holders[rng.integers(len(holders))]
            center = self._near(self._positions[index][wanted], rng)
        else:
            index = self._usable[rng.integers(len(self._usable))]
            known = self._known[index]
            shape = self._scans[index].label.shape
            if known is None and self._near_classes is not None and rng.random() < CLASSES_NEAR:
                known = self._near_classes[index]
            center = self._near(known, rng) if known is not None and len(known) else rng.uniform(0, 1, 3) * shape
        return index, _inside(center, self._scans[index].label.shape, self._crop_size)

    def _near(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        jitter = rng.uniform(-0.25, 0.25, 3) * self._crop_size
        center: np.ndarray = positions[rng.integers(len(positions))] + jitter
        return center


def crops_device(device: torch.device) -> torch.device:
    """Where crops are made for a network on `device`: there, but not on Apple GPUs; some cannot resample in 3D."""
    return device if device.type == "cuda" else CPU


def cut(
    scan: LabeledScan,
    center: np.ndarray,
    crop: tuple[int, int, int],
    change: SpatialChange,
    device: torch.device = CPU,
) -> tuple[Tensor, Tensor]:
    """Cut and resample one crop: image [C, I, J, K] linearly, target [I, J, K] nearest; both on `device`.

    Beyond the scan's border the image goes on with its border values, and the target is `IGNORE`.
    """
    middle = torch.as_tensor(center, dtype=torch.float32)
    coordinates = source_coordinates(change.to(device), middle.to(device), crop)  # [I, J, K, 3]
    lowest, highest = source_box(change, middle, crop)
    shape = torch.tensor(scan.label.shape)
    low, high = lowest.floor().long(), highest.ceil().long() + 2
    low, high = torch.minimum(low.clamp(min=0), shape - 1), torch.minimum(torch.maximum(high, low + 1), shape)
    high = torch.maximum(high, low + 1)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    # Copies, because scans may be memory-mapped; in their own precision, which is the less to move.
    image = torch.from_numpy(np.array(scan.image[(slice(None), *box)])).to(device).float()
    label = torch.from_numpy(np.array(scan.label[box])).to(device).float()

    local = coordinates - low.to(device)
    size = (high - low).float().to(device)
    # grid_sample wants (K, J, I) order and -1..1 from edge to edge of the box.
    grid = ((2 * local + 1) / size - 1).flip(-1)[None]
    voxels = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    target = F.grid_sample(label[None, None], grid, mode="nearest", padding_mode="border", align_corners=False)[0, 0]
    if bool((lowest < -0.5).any() or (highest > shape - 0.5).any()):
        outside = ((coordinates < -0.5) | (coordinates > shape.to(device) - 0.5)).any(dim=-1)
        target = torch.where(outside, torch.full_like(target, IGNORE), target)
    return voxels, target.round().to(torch.uint8)


def _inside(center: np.ndarray, shape: Sequence[int], crop: Sequence[int]) -> np.ndarray:
    """Move the center so that the crop reaches over the border only where the scan is smaller than the crop."""
    shape_, half = np.asarray(shape, dtype=float), np.asarray(crop, dtype=float) / 2
    low, high = half - 0.5, shape_ - half - 0.5
    middle = (shape_ - 1) / 2
    return np.where(low <= high, np.clip(center, np.minimum(low, high), np.maximum(low, high)), middle)


def _class_positions(scan: LabeledScan, seed: int) -> dict[int, np.ndarray]:
    """Voxel indices [m, 3] of each class in a scan, at most `POSITIONS_PER_CLASS` of each."""
    rng = np.random.default_rng(seed)
    label = np.asarray(scan.label)
    flat = np.flatnonzero((label > 0) & (label != IGNORE))
    values = label.reshape(-1)[flat]
    return {int(value): _some(flat[values == value], label.shape, rng) for value in np.unique(values)}


def _known_positions(scan: LabeledScan, seed: int) -> np.ndarray | None:
    """Voxel indices [m, 3] of which something is known, at most `POSITIONS_PER_CLASS`; None: of all."""
    known = np.asarray(scan.label) != IGNORE
    return None if known.all() else _some(np.flatnonzero(known), known.shape, np.random.default_rng(seed))


def _some(flat: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Indices [m, 3] of at most `POSITIONS_PER_CLASS` of these voxels."""
    if len(flat) > POSITIONS_PER_CLASS:
        flat = np.sort(rng.choice(flat, POSITIONS_PER_CLASS, replace=False))
    return np.stack(np.unravel_index(flat, shape), axis=1)


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


def change_intensities(crop: Tensor, probability: float, seed: int) -> Tensor:
    """MONAI's random intensity transforms of a normalized crop [C, I, J, K], each channel on its own: contrasts differ.

    A channel of one value is left as it is: changes that divide by its range would make NaN of it.
    """
    p, sigma = probability, (0.4, 1.0)
    transforms = Compose(  # new ones, since they hold what they draw, and there are several threads
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
    transforms.set_random_state(seed=seed)
    return torch.stack([_changed(channel, transforms) for channel in crop]).float()


def _changed(channel: Tensor, transforms: Compose) -> Tensor:
    if bool(channel.max() - channel.min() < ONE_VALUE):
        return channel
    # As a plain tensor: MONAI's own, passed through a network, makes its layers copy what they give.
    changed: Tensor = convert_to_tensor(transforms(channel[None]), track_meta=False)[0]
    # A change on the way may have left one value, too.
    return changed if bool(changed.isfinite().all()) else channel
