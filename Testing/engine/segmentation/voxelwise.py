"""Networks of one voxel's view, whose results can be said beforehand, and one that counts what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from glmae.segmentation.class_slabs import class_slabs
from glmae.segmentation.scan_maps import scan_maps


class Voxelwise(nn.Module):
    """Its map is the scan; its logits depend on each voxel alone, so that windows cannot change the result."""

    def __init__(self, token: tuple[int, int, int] = (8, 8, 8)) -> None:
        super().__init__()
        self.backbone = SimpleNamespace(config=SimpleNamespace(patch_size=token))

    def maps(self, x: Tensor) -> list[Tensor]:
        return [x]

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x = maps[0]
        return [torch.cat([torch.zeros_like(x), x, -x], dim=1)]


class Counted(nn.Module):
    """Counts the windows that a network is given; what runs it may run a copy, which counts here, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen = 0

    @property
    def backbone(self) -> nn.Module:
        return self.network.backbone

    def __deepcopy__(self, memo: dict) -> Counted:
        return self

    def maps(self, x: Tensor) -> list[Tensor]:
        self.seen += len(x)
        return list(self.network.maps(x))

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(self.network.logits(maps))


def class_probabilities(network, image, crop, device, priors=()) -> np.ndarray:
    """Class probabilities of a small scan [C, I, J, K] in one array, [n+1, I, J, K] float32."""
    slabs = class_slabs(network, scan_maps(network, image, crop, device), device, priors)
    return np.concatenate([slab.probabilities() for slab in slabs], axis=-1, dtype=np.float32)
