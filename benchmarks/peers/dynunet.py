"""MONAI's DynUNet, planned as nnU-Net plans its 3D U-Net."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import DynUNet
from task import Outcome, Task
from torch import Tensor, nn

from peers.training import PeerConfig, Shape, Size, fastest_batch, run_network

SMALLEST_SIDE = 4  # voxels of the coarsest feature map
MOST_STRIDES = 5
MOST_FEATURES = 320


def run(task: Task) -> Outcome:
    return run_network(task, PlannedUNet, PeerConfig(**tuned(task.device)), fitted_patch)


def tuned(device: str) -> dict[str, Any]:
    """Fields of `PeerConfig`: nnU-Net's on a GPU. Minutes of a CPU teach those nothing; there they were tuned."""
    if device == "cuda":
        return {}
    return {"optimizer": "adamw", "rate": 5e-3, "features": 8, "batch": fastest_batch(device), "voxels": 48**3}


class PlannedUNet(nn.Module):
    """DynUNet with the strides and kernels that nnU-Net's rules give for this crop and spacing, 32 features at first.

    While training it gives the logits of several levels; MONAI brings them all to full resolution.
    """

    def __init__(self, shape: Shape, config: PeerConfig) -> None:
        super().__init__()
        kernels, strides = planned_levels(shape)
        first = config.features or 32
        self.network = DynUNet(
            spatial_dims=3,
            in_channels=shape.channels,
            out_channels=shape.outputs,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=[min(MOST_FEATURES, first * 2**level) for level in range(len(strides))],
            norm_name=("INSTANCE", {"affine": True}),
            deep_supervision=len(strides) > 2,
            deep_supr_num=max(1, len(strides) - 2),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        logits: Tensor = self.network(x)
        return list(logits.unbind(1)) if logits.ndim == x.ndim + 1 else [logits]


def planned_levels(shape: Shape) -> tuple[list[Size], list[Size]]:
    """Kernels and strides of the levels, finest first, after nnU-Net's rules.

    An axis is halved while 4 voxels remain, and only while its spacing is less than twice the finest one of those that
    can still be halved; its kernel is 1 until its spacing is once less than twice the finest.
    """
    sides, spacing = [float(side) for side in shape.crop], list(shape.spacing)
    kernels, strides = [_kernel(spacing)], [(1, 1, 1)]
    while len(strides) <= MOST_STRIDES:
        large = [side / 2 >= SMALLEST_SIDE for side in sides]
        if not any(large):
            break
        finest = min(mm for mm, enough in zip(spacing, large, strict=True) if enough)
        stride = [2 if enough and mm < 2 * finest else 1 for mm, enough in zip(spacing, large, strict=True)]
        sides = [side / step for side, step in zip(sides, stride, strict=True)]
        spacing = [mm * step for mm, step in zip(spacing, stride, strict=True)]
        strides.append((stride[0], stride[1], stride[2]))
        before, now = kernels[-1], _kernel(spacing)
        kernels.append((max(before[0], now[0]), max(before[1], now[1]), max(before[2], now[2])))
    return kernels, strides


def fitted_patch(shape: Shape) -> Size:
    """The crop with its sides rounded to what the strides divide."""
    _, strides = planned_levels(shape)
    sides = []
    for axis, side in enumerate(shape.crop):
        unit = 1
        for stride in strides:
            unit *= stride[axis]
        sides.append(max(1, round(side / unit)) * unit)
    return sides[0], sides[1], sides[2]


def _kernel(spacing: list[float]) -> Size:
    sides = [3 if mm < 2 * min(spacing) else 1 for mm in spacing]
    return sides[0], sides[1], sides[2]
