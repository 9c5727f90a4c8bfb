"""Convolutions over thin maps, of which some CPUs compute wrong gradients in bfloat16."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Convolution(nn.Conv3d):
    """A convolution that is computed in float32 in training on the CPU where its map is two voxels long along I.

    On CPUs with AVX-512 but without AMX, oneDNN (3.12, of torch 2.13) reads memory that nobody wrote when it computes
    the gradient of a 3 x 3 x 3 kernel over such a map in bfloat16: results vary, NaN is among them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, I, J, K] -> [B, D, I, J, K]."""
        if x.shape[2] != 2 or not (self.weight.requires_grad and torch.is_autocast_enabled("cpu")):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


def guard_thin_maps(network: nn.Module) -> None:
    """Make each convolution of a network, but those of single voxels, a `Convolution`; it stays the same object."""
    for part in network.modules():
        if type(part) is nn.Conv3d and math.prod(part.kernel_size) > 1:
            part.__class__ = Convolution
