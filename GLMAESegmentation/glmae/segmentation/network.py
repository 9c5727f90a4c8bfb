"""The segmentation network: the GL-MAE backbone and one of the heads."""

from __future__ import annotations

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

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits [B, n+1, I, J, K] (background first) at full resolution, followed by coarser ones while training.

        Args:
            x: normalised scan [B, C, I, J, K]; each side a multiple of the patch.
        """
        return list(self.head(x, self.backbone.features(x, self.head.after)))
