"""The convolutional trunk, a U of convolutions from half resolution down to the token map and back.

It may be pre-trained together with the transformer, which helps little between convolutions that start from chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from .presets import BackboneConfig

NORM = ("INSTANCE", {"affine": True})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
FIRST_WIDTH, LARGEST_WIDTH = 32, 256


@dataclass(frozen=True)
class TrunkMaps:
    """What the trunk makes of a scan [B, C, I, J, K].

    Attributes:
        coarse: one place per token, [B, `Trunk.coarse_width`, i, j, k].
        fine: at the trunk's finest resolution, half of the scan's along the axes of `Trunk.subvoxels`,
            [B, `Trunk.fine_width`, I/2, J/2, K/2].
        entry: the first encoder's map, before any context: as large as `fine`.
        between: the decoders' maps from `coarse` (left out) to `fine` (left out).
    """

    coarse: Tensor
    fine: Tensor
    entry: Tensor
    between: tuple[Tensor, ...]


class Trunk(nn.Module):
    """Convolutional skips at resolutions 1/2, 1/4, ... of the scan; tokens at one per patch.

    Attributes:
        after: the blocks (0-based) whose token maps it wants.
        subvoxels: voxels of the scan along I, J, K in one place of the fine map.
        coarse_width: channels of the coarse map.
        fine_width: channels of the fine map and of the entry's.
        between_widths: channels of the maps between them.
    """

    def __init__(self, channels: int, backbone: BackboneConfig) -> None:
        super().__init__()
        self.after = (backbone.depth // 2 - 1, backbone.depth - 1)
        first, *others = level_strides(backbone.patch_size)
        self.subvoxels = first
        widths = [min(FIRST_WIDTH * 2**level, LARGEST_WIDTH) for level in range(len(others) + 1)]
        deepest = widths.pop()

        incoming, stride = channels, first
        self.encoders = nn.ModuleList()
        for width, next_stride in zip(widths, others, strict=True):
            self.encoders.append(_block(incoming, width, stride))
            incoming, stride = width, next_stride
        self.bottom = _block(incoming, deepest, stride)
        self.tokens = nn.Sequential(
            nn.Conv3d(len(self.after) * backbone.width, deepest, kernel_size=1, bias=False),
            nn.InstanceNorm3d(deepest, affine=True),
        )
        self.joint = _block(2 * deepest, deepest)

        self.reducers, self.decoders = nn.ModuleList(), nn.ModuleList()
        incoming = deepest
        for width in reversed(widths):
            self.reducers.append(nn.Conv3d(incoming, width, kernel_size=1))
            self.decoders.append(_block(2 * width, width))
            incoming = width
        self.coarse_width, self.fine_width = deepest, incoming
        self.between_widths = tuple(reversed(widths[1:]))

    def forward(self, x: Tensor, token_maps: Sequence[Tensor]) -> TrunkMaps:
        """The maps of a scan.

        Args:
            x: the scan, [B, C, I, J, K].
            token_maps: one [B, width, i, j, k] for each block in `after`.
        """
        skips: list[Tensor] = []
        features = x
        for encoder in self.encoders:
            features = encoder(features)
            skips.append(features)
        entry, decoded = skips[0], []
        features = self.bottom(features)
        coarse = features = self.joint(torch.cat([features, self.tokens(torch.cat(list(token_maps), dim=1))], dim=1))
        for reducer, decoder in zip(self.reducers, self.decoders, strict=True):
            skip = skips.pop()
            features = F.interpolate(reducer(features), size=skip.shape[2:], mode="trilinear")
            features = decoder(torch.cat([features, skip], dim=1))
            decoded.append(features)
        return TrunkMaps(coarse, features, entry, tuple(decoded[:-1]))


def level_strides(patch_size: Sequence[int]) -> list[tuple[int, int, int]]:
    """Strides of 2 per axis whose product is the patch; a thin axis is halved only at the deep levels.

    Example: patch (8, 8, 2) -> (2, 2, 1), (2, 2, 1), (2, 2, 2).

    Raises:
        ValueError: a side of the patch is no power of two.
    """
    powers = [int(side).bit_length() - 1 for side in patch_size]
    if any(2**power != side for power, side in zip(powers, patch_size, strict=True)):
        raise ValueError(f"patch {tuple(patch_size)}: each side must be a power of two")
    levels = max(powers)
    halves = [[2 if level >= levels - power else 1 for power in powers] for level in range(levels)]
    return [(a, b, c) for a, b, c in halves]


def _block(incoming: int, width: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Module:
    """Two 3x3x3 convolutions with instance norm; the first one strided."""
    block: nn.Module = UnetBasicBlock(3, incoming, width, 3, stride, norm_name=NORM, act_name=ACTIVATION)
    return block
