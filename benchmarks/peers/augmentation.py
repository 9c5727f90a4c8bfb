"""nnU-Net's random changes of a crop (Isensee et al., Nature Methods 2021, supplement), through MONAI's transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandSimulateLowResolution,
)
from monai.utils import convert_to_tensor
from torch import Tensor

from glmae.segmentation.finetune_config import AugmentationConfig

# Rotation by up to 30 degrees and scaling by 0.7 to 1.4, each in a fifth of the crops, so one or both in 0.36 of them.
SPATIAL = AugmentationConfig(rotation=math.pi / 6, scale=0.4, spatial=0.36, elastic=0.0, intensity=0.0)


class Intensity:
    """nnU-Net's intensity changes, in its order and with its probabilities, for one normalized crop [C, I, J, K]."""

    def __init__(self) -> None:
        sigma = (0.5, 1.0)
        self._transforms = Compose(
            [
                # The variance is up to 0.1.
                RandGaussianNoise(prob=0.1, std=math.sqrt(0.1)),
                # Where nnU-Net also draws "for each channel, or not" the two probabilities are multiplied here.
                RandGaussianSmooth(prob=0.1, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
                RandScaleIntensity(factors=0.25, prob=0.15),
                RandScaleIntensityFixedMean(factors=0.25, prob=0.15, fixed_mean=True, preserve_range=True),
                RandSimulateLowResolution(prob=0.125, zoom_range=(0.5, 1.0)),
                RandAdjustContrast(prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
                RandAdjustContrast(prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            ]
        )

    def __call__(self, crop: Tensor, seed: int) -> Tensor:
        self._transforms.set_random_state(seed=seed)
        # As plain tensors, as in our own augmentation: MONAI's own make a network's layers copy what they give.
        changed = [convert_to_tensor(self._transforms(channel[None]), track_meta=False) for channel in crop]
        return torch.cat(changed).float()


def mirrored(image: Tensor, target: Tensor, axes: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Mirror a crop [C, I, J, K] and its target [I, J, K] along each of `axes` in half of the cases."""
    chosen = torch.rand(3, generator=torch.Generator().manual_seed(seed)) < 0.5
    flipped = [axis for axis in axes if chosen[axis]]
    return image.flip([axis + 1 for axis in flipped]), target.flip(flipped)
