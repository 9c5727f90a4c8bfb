"""What every segmentation head is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from ...backbone.presets import BackboneConfig


class Head(nn.Module, ABC):
    """From the scan and some of the backbone's token maps to class logits.

    Attributes:
        after: the blocks (0-based) whose token maps the head wants.
    """

    after: tuple[int, ...]

    @abstractmethod
    def __init__(self, channels: int, classes: int, backbone: BackboneConfig) -> None:
        """For scans of `channels` channels and `classes` classes without background."""
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, token_maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, ...] at full resolution, while training followed by coarser ones.

        Args:
            x: the scan, [B, C, I, J, K].
            token_maps: one [B, width, i, j, k] for each block in `after`.
        """
