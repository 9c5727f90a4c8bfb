"""The segmentation network: the GL-MAE backbone and a head, a perceptron that classifies each place of its maps.

One hidden layer is little enough to be fitted to a single labeled scan within seconds (`head_fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..backbone.presets import BackboneConfig
from ..backbone.trunk import Trunk
from ..backbone.vision_transformer import VisionTransformer

# Hidden units of each of the perceptrons that `head_fit` puts side by side, and how many these are.
UNITS, PERCEPTRONS = 64, 3

Size = tuple[int, int, int]


class Head(nn.Module):
    """The trunk (`backbone.trunk`), a perceptron on its maps and the tokens, and the voxels between their places.

    Attributes:
        after: the blocks (0-based) whose token maps it wants.
        widths: channels of the maps of each level, finest level first.
    """

    # Parts whose results are worked on class by class, see `backend_cpu.Output`.
    LAST = ("output", "voxel_output")

    def __init__(self, channels: int, classes: int, backbone: BackboneConfig) -> None:
        super().__init__()
        self.trunk = trunk = Trunk(channels, backbone)
        self.after = trunk.after
        self.widths: tuple[tuple[int, ...], ...] = (
            (trunk.fine_width, trunk.fine_width),
            *((width,) for width in reversed(trunk.between_widths)),
            (trunk.coarse_width, *(backbone.width for _ in trunk.after)),
        )
        units = UNITS * PERCEPTRONS
        self.hidden = nn.ModuleList(
            nn.Conv3d(sum(widths), units, kernel_size=1, bias=not level) for level, widths in enumerate(self.widths)
        )
        self.output = nn.Conv3d(units, classes + 1, kernel_size=1)
        a, b, c = trunk.subvoxels
        # What sets a voxel apart from the others of its place (sub-voxel convolution, Shi et al., arXiv 1609.05158).
        # All start alike: voxels that start unlike each other show as a screen of dots until they are trained.
        self.voxel_output = nn.Conv3d(trunk.fine_width, a * b * c * (classes + 1), kernel_size=1)
        for parameter in self.voxel_output.parameters():
            nn.init.zeros_(parameter)

    def maps(self, x: Tensor, token_maps: Sequence[Tensor]) -> list[Tensor]:
        """What is classified: for each level, finest first, its maps one behind the other.

        Args:
            x: the scan, [B, C, I, J, K].
            token_maps: one [B, width, i, j, k] for each block in `after`.
        """
        found = self.trunk(x, token_maps)
        fine = torch.cat([found.fine, found.entry], dim=1)
        return [fine, *reversed(found.between), torch.cat([found.coarse, *token_maps], dim=1)]

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] at full resolution, and those of the places of the finest map."""
        if self.training and torch.is_grad_enabled():
            # The hidden units are many and quickly made again: kept, they would take half of a training's memory.
            again: list[Tensor] = checkpoint(self._logits, *maps, use_reentrant=False)
            return again
        return self._logits(*maps)

    def _logits(self, *maps: Tensor) -> list[Tensor]:
        summed: Tensor = self.hidden[0](maps[0])
        for layer, level in zip(self.hidden[1:], maps[1:], strict=True):
            summed = summed + enlarged(layer(level), summed.shape[2:])
        coarse: Tensor = self.output(F.gelu(summed))
        voxels = spread(self.voxel_output(maps[0][:, : self.trunk.fine_width]), self.trunk.subvoxels)
        return [enlarged(coarse, voxels.shape[2:]) + voxels, coarse]


class SegmentationNetwork(nn.Module):
    """A scan in, the logits of `classes` classes and of the background out."""

    def __init__(self, backbone: BackboneConfig, classes: int) -> None:
        super().__init__()
        self.backbone = VisionTransformer(backbone)
        self.head = Head(backbone.channels, classes, backbone)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What the head classifies, finest first: [B, width, i, j, k] each, of which x's sides are multiples.

        Args:
            x: normalized scan [B, C, I, J, K]; each side a multiple of the patch.
        """
        return self.head.maps(x, self.backbone.features(x, self.head.after))

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] (background first) at full resolution, followed by coarser ones for training."""
        return self.head.logits(maps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The logits of a scan; while training followed by coarser ones.

        Args:
            x: normalized scan [B, C, I, J, K]; each side a multiple of the patch.
        """
        logits = self.logits(self.maps(x))
        return logits if self.training else logits[:1]


@dataclass(frozen=True)
class ScanMaps:
    """The maps of a scan, finest level first, on the CPU.

    Attributes:
        levels: [width, i, j, k] float16 each: over the scan and the voxels added around it.
        strides: voxels along I, J, K in a place of each level.
        token: voxels along I, J, K in a place of the coarsest level of all networks, the tokens.
        before: voxels along I, J, K added before the scan.
        shape: of the scan, [I, J, K].
    """

    levels: tuple[Tensor, ...]
    strides: tuple[Size, ...]
    token: Size
    before: Size
    shape: Size

    @property
    def nbytes(self) -> int:
        """Memory that the maps take."""
        return sum(level.nbytes for level in self.levels)


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """A map [B, C, i, j, k] interpolated linearly to another size."""
    return F.interpolate(x, size=tuple(size), mode="trilinear")


def spread(x: Tensor, parts: tuple[int, int, int]) -> Tensor:
    """Channels to sub-voxels: [B, n * a * b * c, I, J, K] -> [B, n, I * a, J * b, K * c]."""
    a, b, c = parts
    cells = x.unflatten(1, (-1, a, b, c)).permute(0, 1, 5, 2, 6, 3, 7, 4)  # [B, n, I, a, J, b, K, c]
    # Copied in whole lines, one for each c, in half the time of single voxels.
    return torch.stack(cells.unbind(7), dim=7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
