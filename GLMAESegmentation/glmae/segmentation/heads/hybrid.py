"""A slim convolutional U at full resolution whose deepest level is the transformer's token map.

The full-resolution convolutions of UNETR's decoder are most of its operations. Here full resolution has few channels,
the token map carries the context, and trilinear up-sampling replaces transposed convolutions (arXiv 2507.01744).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbone.level_strides import level_strides
from ...backbone.presets import BackboneConfig
from .head import Head

NORM = ("INSTANCE", {"affine": True})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
FIRST_WIDTH = 16


class HybridHead(Head):
    """Convolutional skips at resolutions 1, 1/2, 1/4, ... of the scan; tokens at one per patch.

    Args:
        channels: input channels C of the scan.
        classes: number of classes n without background.
        backbone: gives the width and the patch size, from which the strides of the levels follow.
    """

    def __init__(self, channels: int, classes: int, backbone: BackboneConfig) -> None:
        super().__init__(channels, classes, backbone)
        self.after = (backbone.depth // 2 - 1, backbone.depth - 1)
        self.strides = level_strides(backbone.patch_size)
        widths = [FIRST_WIDTH * 2**level for level in range(len(self.strides))]
        deepest = min(2 * widths[-1], 256)

        self.encoders = nn.ModuleList()
        incoming: int = channels
        stride: tuple[int, int, int] = (1, 1, 1)
        for width, next_stride in zip(widths, self.strides, strict=True):
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
        self.outputs = nn.ModuleList(nn.Conv3d(width, classes + 1, kernel_size=1) for width in widths[:2])

    def forward(self, x: Tensor, token_maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] at full resolution and, for training, at the next coarser one.

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

        logits: list[Tensor] = []
        for level in range(len(skips) - 1, -1, -1):
            features = self.reducers[len(skips) - 1 - level](features)
            features = F.interpolate(features, size=skips[level].shape[2:], mode="trilinear")
            features = self.decoders[len(skips) - 1 - level](torch.cat([features, skips[level]], dim=1))
            if level == 0 or (level < len(self.outputs) and self.training):
                logits.insert(0, self.outputs[level](features))
        return logits


def _block(incoming: int, width: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Module:
    """Two 3x3x3 convolutions with instance norm; the first one strided."""
    block: nn.Module = UnetBasicBlock(3, incoming, width, 3, stride, norm_name=NORM, act_name=ACTIVATION)
    return block
