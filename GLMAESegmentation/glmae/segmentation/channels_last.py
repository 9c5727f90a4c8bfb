"""A network as it runs fastest at inference on the CPU: the same weights in bfloat16, the channels last in memory.

Convolutions and up-sampling read all channels of a voxel at once; trilinear up-sampling is several times faster so.
Autocast would cast the weights again in every pass.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..devices import precision


class ChannelsLast(nn.Module):
    """Runs a network on scans whose channels are last in memory; within autocast."""

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


class Output(nn.Module):
    """A convolution of single voxels whose result has its channels first: what follows goes from class to class."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, I, J, K] -> [B, D, I, J, K]."""
        voxels = x.to(self.weight.dtype).flatten(2)  # [B, C, N]
        weight, bias = self.weight.flatten(1), self.bias[:, None]
        # One product after the other is faster than all at once (torch 2.13).
        found = [torch.addmm(bias, weight, each) for each in voxels]
        return (torch.stack(found) if len(found) > 1 else found[0][None]).unflatten(2, x.shape[2:])


def channels_last(network: nn.Module, device: torch.device) -> nn.Module:
    """The network itself, or where it pays (bfloat16 on the CPU) one with the same weights that runs faster."""
    if device.type != "cpu" or precision(device) != torch.bfloat16:
        return network
    shared = {id(entry): entry for entry in (*network.parameters(), *network.buffers())}
    try:
        faster = copy.deepcopy(network, shared)
    except RuntimeError:  # it keeps results of its last pass, which cannot be copied (MONAI's DynUNet)
        return network
    _exchange(faster)
    return ChannelsLast(faster)


def _exchange(network: nn.Module, within: str = "") -> None:
    """Take the parts that run faster for those of a copied network, which still shares its parameters."""
    for name, part in network.named_children():
        # Heads call their last layers `output`, or `outputs`.
        last = "output" in name or "output" in within
        if isinstance(part, nn.InstanceNorm3d) and not part.track_running_stats:
            setattr(network, name, InstanceNorm(part))
        elif isinstance(part, nn.Conv3d) and last and math.prod(part.kernel_size) == 1 and part.bias is not None:
            setattr(network, name, Output(_cast(part.weight), _cast(part.bias)))
        elif isinstance(part, nn.Conv3d | nn.Linear):
            part.weight = nn.Parameter(_ordered(part), requires_grad=False)
            if part.bias is not None:
                part.bias = nn.Parameter(_cast(part.bias), requires_grad=False)
        elif not isinstance(part, InstanceNorm):  # a part that is reached on two ways is exchanged once
            _exchange(part, within=name)


def _cast(values: Tensor) -> Tensor:
    return values.detach().to(torch.bfloat16)


def _ordered(part: nn.Conv3d | nn.Linear) -> Tensor:
    """The weight in bfloat16; that of a convolution decides where its result has the channels."""
    weight = _cast(part.weight)
    if isinstance(part, nn.Linear) or part.kernel_size == part.stride:  # patch embeddings are matrix products
        return weight
    # Of one channel this order would be the usual one, too, unless its strides are given.
    inputs, first, second, third = weight.shape[1:]
    strides = (inputs * first * second * third, 1, second * third * inputs, third * inputs, inputs)
    return torch.empty_strided(weight.shape, strides, dtype=weight.dtype).copy_(weight)
