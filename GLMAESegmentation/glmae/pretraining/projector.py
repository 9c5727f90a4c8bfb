"""The projector of a CLS token onto prototypes (DINO's head, arXiv 2104.14294)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Projector(nn.Module):
    """Three linear layers, a unit-length bottleneck, and cosine similarities to the prototypes.

    Args:
        width: length of a token.
        hidden: width of the two hidden layers.
        bottleneck: length of the vector that is compared with the prototypes.
        prototypes: number of prototypes K.
    """

    def __init__(self, *, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        # Only its direction counts: it is scaled to unit rows in forward().
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.prototypes)

    def forward(self, cls: Tensor) -> Tensor:
        """[B, width] -> similarities in -1..1, [B, K]."""
        bottleneck = self.mlp(cls)
        with torch.autocast(cls.device.type, enabled=False):
            # In half precision, the temperature of 0.04 would magnify the rounding 25 times.
            return F.linear(F.normalize(bottleneck.float(), dim=-1), F.normalize(self.prototypes, dim=-1))
