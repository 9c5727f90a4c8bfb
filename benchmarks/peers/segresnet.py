"""MONAI's SegResNet (Myronenko, arXiv 1810.11654), without its autoencoder branch."""

from __future__ import annotations

from dataclasses import replace

from monai.networks.nets import SegResNet
from task import Outcome, Task
from torch import Tensor, nn

from peers.training import PeerConfig, Shape, fastest_batch, run_network


def run(task: Task) -> Outcome:
    config = PeerConfig(optimizer="adamw", weight_decay=1e-5)
    if task.device != "cuda":  # tuned on scans of the pool: in minutes of a CPU the larger one learns nothing
        config = replace(config, rate=3e-3, features=8, batch=fastest_batch(task.device), voxels=48**3)
    return run_network(task, ResidualNetwork, config)


class ResidualNetwork(nn.Module):
    """SegResNet with 16 features at first, and MONAI's blocks; three halvings, so that crops of multiples of 8 fit."""

    def __init__(self, shape: Shape, config: PeerConfig) -> None:
        super().__init__()
        self.network = SegResNet(
            spatial_dims=3,
            init_filters=config.features or 16,
            in_channels=shape.channels,
            out_channels=shape.outputs,
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.network(x)]
