"""The configuration of a fine-tuning run: what follows from the fingerprint of the data and the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backbone.presets import PRESETS
from ..errors import RequestError
from ..json_record import JsonRecord

# Voxels in a crop: as much context as leaves a step at about a second on two CPU cores, more on a GPU.
CROP_VOXELS = {"cpu": 64**3, "mps": 80**3, "cuda": 96**3}
# Voxels of the median prepared scan above which its spacing is coarsened.
SCAN_VOXELS = {"cpu": 128**3, "mps": 160**3, "cuda": 192**3}


@dataclass(frozen=True)
class AugmentationConfig(JsonRecord):
    """Strength of the random changes of crops. Probabilities are per crop.

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


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(JsonRecord):
    """Everything that decides the weights of a fine-tuned model, beside the scans and the number of steps.

    Attributes:
        crop: crop size in voxels, [I, J, K], multiples of the token patch; the window at inference, too.
        preset: backbone preset that is built when no pre-trained backbone is given.
        batch: crops in a step.
        foreground: share of crops centered near a labeled voxel, drawn with equal probability over the classes.
        start_steps: in which the head is fitted to the frozen backbone's maps before the training, see `instant_start`;
            some seconds. 0: it starts at random.
        start_crops: augmented crops of each labeled scan to whose maps the head is fitted, too: scans that it has not
            seen are turned, larger or brighter.
        rate: AdamW's peak learning rate for the head.
        trunk_rate: the same for the convolutional trunk.
        backbone_rate: the same for the transformer; transformers want lower rates.
        gentle: factors on these three after a start that fits its own scans: full rates would make the network forget
            what the backbone knows, and learn one or two scans by heart instead.
        keep: share of the start in the weights that are kept after such a training on one scan; of two scans half as
            much, and so on.
        settled: steps of such a training up to which more of the start is kept, all of it with none: the first steps
            make a good start worse before they make it better.
        fits: Dice of the fitted head on its own scans from which on it is such a start.
        weight_decay: AdamW's, on weights with two or more dimensions.
        warm_up: share of the steps in which the rate rises linearly.
        clip: largest gradient norm.
        average: share of the last steps over which about the kept weights are averaged (exponentially).
        location: whether a class is expected where the labeled scans show it, see `location_prior`.
        atlases: whether the labels of the training scans shape the results, see `atlas_fusion`.
        augmentation: random changes of the crops.
        seed: of initialization, crops and augmentation.
    """

    crop: tuple[int, int, int]
    preset: str = "tiny"
    batch: int = 2
    foreground: float = 0.67
    start_steps: int = 250
    start_crops: int = 16
    rate: float = 5e-3
    trunk_rate: float = 5e-3
    backbone_rate: float = 1e-3
    gentle: tuple[float, float, float] = (0.2, 0.1, 0.1)
    keep: float = 0.5
    settled: int = 50
    fits: float = 0.5
    weight_decay: float = 0.01
    warm_up: float = 0.05
    clip: float = 1.0
    average: float = 0.1
    location: bool = True
    atlases: bool = True
    augmentation: AugmentationConfig = AugmentationConfig()
    seed: int = 0

    def changed(self, settings: Mapping[str, Any]) -> FinetuneConfig:
        """The same with other values for some fields, see `JsonRecord.changed`."""
        config = super().changed(settings)
        # The name of an imported backbone need not be a preset's.
        if "preset" in settings and config.preset not in PRESETS:
            raise RequestError(f"preset '{config.preset}' cannot be built; choose from {', '.join(PRESETS)}")
        return config


def plan_crop(
    shapes: Sequence[tuple[int, int, int]], token_patch: tuple[int, int, int], voxels: int
) -> tuple[int, int, int]:
    """The crop size: the whole median scan if that fits `voxels`, else its longest side is cut until it fits.

    Args:
        shapes: shapes of the prepared scans, [I, J, K].
        token_patch: the backbone's patch; each side of the crop is a multiple of it, and at least two of it.
        voxels: the most voxels in a crop.
    """
    median = [sorted(shape[axis] for shape in shapes)[len(shapes) // 2] for axis in range(3)]
    sides = [max(2, math.ceil(side / token)) * token for side, token in zip(median, token_patch, strict=True)]
    while math.prod(sides) > voxels:
        longest = max(range(3), key=lambda axis: (sides[axis] > 2 * token_patch[axis], sides[axis]))
        if sides[longest] <= 2 * token_patch[longest]:
            break
        sides[longest] -= token_patch[longest]
    return sides[0], sides[1], sides[2]
