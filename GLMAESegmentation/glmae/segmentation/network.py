"""The segmentation network: the GL-MAE backbone and one of the heads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..backbone.presets import BackboneConfig
from ..backbone.vision_transformer import VisionTransformer
from .heads import DEFAULT_HEAD, HEADS


class SegmentationNetwork(nn.Module):
    """A scan in, class logits out.

    Args:
        backbone: configuration of the vision transformer, input channels included.
        classes: number of classes n without background.
        head: a name in `heads.HEADS`.
    """

    def __init__(self, backbone: BackboneConfig, classes: int, head: str = DEFAULT_HEAD) -> None:
        super().__init__()
        self.backbone = VisionTransformer(backbone)
        self.head = HEADS[head](backbone.channels, classes, backbone)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What the head classifies, finest first: [B, width, i, j, k] each, of which x's sides are multiples.

        Args:
            x: normalized scan [B, C, I, J, K]; each side a multiple of the patch.
        """
        return self.head.maps(x, self.backbone.features(x, self.head.after))

    def logits(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] (background first) at full resolution, followed by coarser ones for training.

        Args:
            maps: as `maps` gives them.
        """
        return self.head.logits(maps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The logits of a scan; while training followed by coarser ones.

        Args:
            x: normalized scan [B, C, I, J, K]; each side a multiple of the patch.
        """
        logits = self.logits(self.maps(x))
        return logits if self.training else logits[:1]
