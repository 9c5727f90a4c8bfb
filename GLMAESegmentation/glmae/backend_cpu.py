"""What makes networks run faster, or right, on some CPUs; everywhere else they are as they are written.

On CPUs that multiply bfloat16, channels are last in memory: convolutions and up-sampling read all channels of a voxel
at once. At inference the weights are in bfloat16, which autocast would cast anew in every pass; in training it has to.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .devices import has_matrix_units, precision

# Attention's matrices of up to so many entries are kept in memory, 64 MiB.
WRITTEN_OUT = 2**25


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention, [B, heads, N, width/heads] each."""
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    # Backwards, and without matrix units, the CPU's fused attention takes up to twice as long (torch 2.13).
    if on_cpu and scores <= WRITTEN_OUT and (query.requires_grad or not has_matrix_units()):
        with torch.autocast("cpu", enabled=False):
            similar = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)
            return similar.softmax(dim=3) @ value
    return F.scaled_dot_product_attention(query, key, value)


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


class ChannelsLast(nn.Module):
    """Runs a network on scans and maps whose channels are last in memory; within autocast."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def maps(self, x: Tensor) -> list[Tensor]:
        """As the network's."""
        result: list[Tensor] = self.network.maps(x.contiguous(memory_format=torch.channels_last_3d))
        return result

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """As the network's."""
        ordered = [level.contiguous(memory_format=torch.channels_last_3d) for level in maps]
        result: list[Tensor] = self.network.logits(ordered)
        return result


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm that leaves the channels last; PyTorch's own moves them to the front and back again.

    Args:
        norm: whose parameters it takes, not copies of them; one without running statistics.
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__(norm.num_features, norm.eps, affine=norm.affine)
        self.weight, self.bias = norm.weight, norm.bias
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, I, J, K] -> [B, C, I, J, K]."""
        # The statistics of a batch of one are those of the instance.
        found = [
            F.batch_norm(each, None, None, self.weight, self.bias, training=True, eps=self.eps) for each in x.split(1)
        ]
        return torch.cat(found) if len(found) > 1 else found[0]


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


def pays(device: torch.device) -> bool:
    """Whether networks run faster with the channels last."""
    return device.type == "cpu" and precision(device) == torch.bfloat16


def train_channels_last(network: nn.Module) -> None:
    """Change a network that is to be trained so that it leaves the channels of its input last.

    Names, values and identity of its parameters stay; their order in memory and the instance norms are others.
    """
    for name, part in network.named_children():
        if isinstance(part, nn.InstanceNorm3d) and not part.track_running_stats:
            setattr(network, name, InstanceNorm(part))
        elif isinstance(part, nn.Conv3d):
            part.weight.data = _ordered(part, part.weight.data)
        else:
            train_channels_last(part)


def channels_last(network: nn.Module, device: torch.device) -> Any:
    """The network itself, or where it pays (bfloat16 on the CPU) one with the same weights that runs faster."""
    if not pays(device):
        return network
    shared = {id(entry): entry for entry in (*network.parameters(), *network.buffers())}
    faster = copy.deepcopy(network, shared)
    _exchange(faster)
    return ChannelsLast(faster)


def _exchange(network: nn.Module) -> None:
    """Take the parts that run faster for those of a copied network, which still shares its parameters."""
    for name, part in network.named_children():
        last = name in getattr(network, "LAST", ())
        if isinstance(part, nn.InstanceNorm3d) and not part.track_running_stats:
            setattr(network, name, InstanceNorm(part))
        elif isinstance(part, nn.Conv3d) and last and math.prod(part.kernel_size) == 1 and part.bias is not None:
            setattr(network, name, Output(_cast(part.weight), _cast(part.bias)))
        elif isinstance(part, nn.Conv3d | nn.Linear):
            part.weight = nn.Parameter(_ordered(part, _cast(part.weight)), requires_grad=False)
            if part.bias is not None:
                part.bias = nn.Parameter(_cast(part.bias), requires_grad=False)
        elif not isinstance(part, InstanceNorm):  # a part that is reached on two ways is exchanged once
            _exchange(part)


def _cast(values: Tensor) -> Tensor:
    return values.detach().to(torch.bfloat16)


def _ordered(part: nn.Conv3d | nn.Linear, weight: Tensor) -> Tensor:
    """The weight of a convolution in the order that decides where its result has the channels."""
    if isinstance(part, nn.Linear) or part.kernel_size == part.stride:  # patch embeddings are matrix products
        return weight
    # Of one channel this order would be the usual one, too, unless its strides are given.
    inputs, first, second, third = weight.shape[1:]
    strides = (inputs * first * second * third, 1, second * third * inputs, third * inputs, inputs)
    return torch.empty_strided(weight.shape, strides, dtype=weight.dtype).copy_(weight)
