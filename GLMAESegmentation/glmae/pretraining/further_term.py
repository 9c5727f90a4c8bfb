"""What a term of the loss from outside has to offer; `research.dense_consistency` is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..backbone.presets import BackboneConfig
from ..backbone.vision_transformer import VisionTransformer


class FurtherTerm(nn.Module):
    """A term of the loss from outside; it may have weights of its own, which are trained with the others."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def read(
        self,
        image: np.ndarray,
        appearances: tuple[np.ndarray, np.ndarray] | None,
        seed: list[int],
        device: torch.device,
    ) -> tuple[Tensor, ...]:
        """What it needs of one volume in one step: tensors that are stacked over the batch.

        Args:
            image: the scan, [C, I, J, K], normalized.
            appearances: the scan pictured in two ways, if it is.
        """
        raise NotImplementedError

    def forward(self, student: VisionTransformer, *parts: Tensor) -> Tensor:
        """The term, a scalar, of what `read` gave."""
        raise NotImplementedError

    def weights(self) -> dict[str, Tensor]:
        """What is written beside the encoder, by name."""
        return {}

    def settings(self) -> dict[str, Any]:
        """As stored in model.json."""
        return {"weight": self.weight}


# Makes a term for a backbone; called when the rest of the network is there, so that its weights stay what they are.
MakeTerm = Callable[[BackboneConfig], FurtherTerm]
