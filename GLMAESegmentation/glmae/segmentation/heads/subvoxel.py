"""The default head: a convolutional U from half resolution down to the token map, with sub-voxel outputs.

Most operations of UNETR's decoder, and of any U-Net, are convolutions at full resolution. Here the scan is halved at
once, and each place of the finest map predicts all the voxels it stands for (sub-voxel convolution, Shi et al.,
arXiv 1609.05158). That buys several times more training steps in the same minutes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbone.presets import BackboneConfig
from .head import Head
from .level_strides import level_strides

NORM = ("INSTANCE", {"affine": True})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
FIRST_WIDTH, LARGEST_WIDTH = 32, 256


class SubvoxelHead(Head):
    """Convolutional skips at resolutions 1/2, 1/4, ... of the scan; tokens at one per patch.

    Args:
        channels: input channels C of the scan.
        classes: number of classes n without background.
        backbone: gives the width and the patch size, from which the strides of the levels follow.
    """

    def __init__(self, channels: int, classes: int, backbone: BackboneConfig) -> None:
        super().__init__(channels, classes, backbone)
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
        parts = first[0] * first[1] * first[2]
        self.output = nn.Conv3d(incoming, parts * (classes + 1), kernel_size=1)
        self.coarse_output = nn.Conv3d(incoming, classes + 1, kernel_size=1)

    def forward(self, x: Tensor, token_maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] at full resolution and, for training, at the finest map's.

        Args:
            x: the scan, [B, C, I, J, K].
            token_maps: one [B, width, i, j, k] for each block in `after`.
        """
        skips = []
        features = x
        for encoder in self.encoders:
            features = encoder(features)
            skips.append(features)
        features = self.bottom(features)
        features = self.joint(torch.cat([features, self.tokens(torch.cat(list(token_maps), dim=1))], dim=1))
        for reducer, decoder in zip(self.reducers, self.decoders, strict=True):
            skip = skips.pop()
            features = F.interpolate(reducer(features), size=skip.shape[2:], mode="trilinear")
            features = decoder(torch.cat([features, skip], dim=1))
        logits = [_spread(self.output(features), self.subvoxels)]
        if self.training:
            logits.append(self.coarse_output(features))
        return logits


def _spread(x: Tensor, parts: tuple[int, int, int]) -> Tensor:
    """Channels to sub-voxels: [B, n * a * b * c, I, J, K] -> [B, n, I * a, J * b, K * c]."""
    a, b, c = parts
    cells = x.unflatten(1, (-1, a, b, c))  # [B, n, a, b, c, I, J, K]
    return cells.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _block(incoming: int, width: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Module:
    """Two 3x3x3 convolutions with instance norm; the first one strided."""
    block: nn.Module = UnetBasicBlock(3, incoming, width, 3, stride, norm_name=NORM, act_name=ACTIVATION)
    return block
