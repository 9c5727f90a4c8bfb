"""The default head: the pre-trainable convolutional trunk with sub-voxel outputs.

Most operations of UNETR's decoder, and of any U-Net, are convolutions at full resolution. Here the scan is halved at
once, and each place of the finest map predicts all the voxels it stands for (sub-voxel convolution, Shi et al.,
arXiv 1609.05158). That buys several times more training steps in the same minutes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...backbone.presets import BackboneConfig
from ...backbone.trunk import Trunk


class SubvoxelHead(nn.Module):
    """The trunk (`backbone.trunk`), and classes for each of its places.

    Args:
        channels: input channels C of the scan.
        classes: number of classes n without background.
        backbone: gives the width and the patch size, from which the strides of the levels follow.
    """

    def __init__(self, channels: int, classes: int, backbone: BackboneConfig) -> None:
        super().__init__()
        self.trunk = Trunk(channels, backbone)
        self.after = self.trunk.after
        a, b, c = self.trunk.subvoxels
        self.output = nn.Conv3d(self.trunk.fine_width, a * b * c * (classes + 1), kernel_size=1)
        self.coarse_output = nn.Conv3d(self.trunk.fine_width, classes + 1, kernel_size=1)

    def forward(self, x: Tensor, token_maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] at full resolution and, for training, at the finest map's.

        Args:
            x: the scan, [B, C, I, J, K].
            token_maps: one [B, width, i, j, k] for each block in `after`.
        """
        fine = self.trunk(x, token_maps).fine
        logits = [_spread(self.output(fine), self.trunk.subvoxels)]
        if self.training:
            logits.append(self.coarse_output(fine))
        return logits


def _spread(x: Tensor, parts: tuple[int, int, int]) -> Tensor:
    """Channels to sub-voxels: [B, n * a * b * c, I, J, K] -> [B, n, I * a, J * b, K * c]."""
    a, b, c = parts
    cells = x.unflatten(1, (-1, a, b, c)).permute(0, 1, 5, 2, 6, 3, 7, 4)  # [B, n, I, a, J, b, K, c]
    # Copied in whole lines, one for each c, in half the time of single voxels.
    return torch.stack(cells.unbind(7), dim=7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
