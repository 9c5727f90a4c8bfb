"""MONAI's UNETR from scratch (Hatamizadeh et al., arXiv 2103.10504), in the size that GL-MAE's paper fine-tunes."""

from __future__ import annotations

import importlib.util

from monai.networks.nets import UNETR
from task import Outcome, Task
from torch import Tensor, nn

from glmae.errors import RequestError
from peers.training import PeerConfig, Shape, run_network


def run(task: Task) -> Outcome:
    if importlib.util.find_spec("einops") is None:
        raise RequestError("MONAI's UNETR needs the package einops; run pip install einops, or leave unetr out")
    config = PeerConfig(optimizer="adamw", rate=1e-4, weight_decay=1e-5, token=16)
    return run_network(task, VisionTransformerUNet, config)


class VisionTransformerUNet(nn.Module):
    """ViT-B/16 and a convolutional decoder with 48 features at first; crops of multiples of 16."""

    def __init__(self, shape: Shape, config: PeerConfig) -> None:
        super().__init__()
        self.network = UNETR(
            in_channels=shape.channels,
            out_channels=shape.outputs,
            img_size=shape.crop,
            feature_size=config.features or 48,
            norm_name="instance",
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.network(x)]
