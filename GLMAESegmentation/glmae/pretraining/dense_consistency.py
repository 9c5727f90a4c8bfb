"""Dense global-to-local consistency: our extension of GL-MAE to every place of a scan, and to the convolutional trunk.

The consistencies of the paper compare one CLS token a view. Here the features of one place of the anatomy are to agree
in a wide and in a close view of it that are turned, magnified and pictured differently, and to differ from those of
other places of the same volume: InfoNCE (arXiv 1807.03748) between places, as in SAM (Yan et al., arXiv 2012.02383)
and, with synthetic anatomy in two appearances, in anatomix (arXiv 2411.02372).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.presets import BackboneConfig
from ..backbone.trunk import Trunk
from ..backbone.vision_transformer import VisionTransformer
from .dense_views import DensePairs

HIDDEN, LENGTH = (128, 256), 64


class DenseConsistency(nn.Module):
    """The trunk, and what its maps are compared through.

    Args:
        backbone: of the student.
        temperature: of the similarities.
    """

    def __init__(self, backbone: BackboneConfig, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.trunk = Trunk(backbone.channels, backbone)
        self.fine_projector = _projector(self.trunk.fine_width, HIDDEN[0])
        self.coarse_projector = _projector(self.trunk.coarse_width, HIDDEN[1])

    def forward(self, student: VisionTransformer, pairs: DensePairs) -> Tensor:
        """The loss of a batch, the mean over its volumes; a scalar.

        Args:
            student: the transformer.
            pairs: complete views, nothing masked.
        """
        x = pairs.views.flatten(0, 1)  # [B * 2, C, S, S, S]
        x = x.contiguous(memory_format=torch.channels_last_3d)
        maps = self.trunk(x, student.features(x, self.trunk.after))
        fine = self._contrast(maps.fine, self.fine_projector, pairs.places)
        return fine + self._contrast(maps.coarse, self.coarse_projector, pairs.places)

    def _contrast(self, features: Tensor, projector: nn.Module, places: Tensor) -> Tensor:
        """InfoNCE between the places [B, 2, n, 3] of the two views whose maps are `features` [B * 2, C, i, j, k]."""
        grid = places.flatten(0, 1)[:, :, None, None]  # [B * 2, n, 1, 1, 3]
        with torch.autocast(features.device.type, enabled=False):
            at = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        vectors = projector(at[..., 0, 0].transpose(1, 2))  # [B * 2, n, LENGTH]
        with torch.autocast(features.device.type, enabled=False):
            wide, close = F.normalize(vectors.float(), dim=-1).unflatten(0, (-1, 2)).unbind(1)  # [B, n, LENGTH] each
            similar = wide @ close.transpose(1, 2) / self.temperature  # [B, n, n]
            same = torch.arange(similar.shape[1], device=similar.device).expand(len(similar), -1)
            return (F.cross_entropy(similar, same) + F.cross_entropy(similar.transpose(1, 2), same)) / 2


def _projector(incoming: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(incoming, hidden), nn.GELU(), nn.Linear(hidden, LENGTH))
