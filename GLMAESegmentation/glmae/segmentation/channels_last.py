"""A network as it runs fastest at inference on the CPU: the same weights, the channels last in memory.

Convolutions and up-sampling read all channels of a voxel at once; trilinear up-sampling is several times faster so.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..devices import precision


class ChannelsLast(nn.Module):
    """Runs a network on scans whose channels are last in memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """As the network's."""
        result: list[Tensor] = self.network(x.contiguous(memory_format=torch.channels_last_3d))
        return result


class InstanceNorm(nn.Module):
    """Instance norm that leaves the channels last; PyTorch's own moves them to the front and back again."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, I, J, K] -> [B, C, I, J, K]."""
        if len(x) > 1:
            result: Tensor = self.norm(x)
            return result
        # The statistics of a batch of one are those of the instance.
        return F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, training=True, eps=self.norm.eps)


def channels_last(network: nn.Module, device: torch.device) -> nn.Module:
    """The network itself, or where it pays (bfloat16 on the CPU) one with the same weights that runs faster."""
    if device.type != "cpu" or precision(device) != torch.bfloat16:
        return network
    shared = {id(entry): entry for entry in (*network.parameters(), *network.buffers())}
    try:
        faster = copy.deepcopy(network, shared)
    except RuntimeError:  # it keeps results of its last pass, which cannot be copied (MONAI's DynUNet)
        return network
    _exchange_norms(faster)
    for part in faster.modules():
        # The weights decide the order, because that of a scan with one channel is undetermined. Patch embeddings are
        # matrix products.
        if isinstance(part, nn.Conv3d) and part.kernel_size != part.stride:
            weight = part.weight.detach().contiguous(memory_format=torch.channels_last_3d)
            part.weight = nn.Parameter(weight, requires_grad=False)
    return ChannelsLast(faster)


def _exchange_norms(network: nn.Module) -> None:
    for name, part in network.named_children():
        if isinstance(part, nn.InstanceNorm3d) and not part.track_running_stats:
            setattr(network, name, InstanceNorm(part))
        elif not isinstance(part, InstanceNorm):  # a part that is reached on two ways is exchanged once
            _exchange_norms(part)
