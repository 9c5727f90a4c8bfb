"""Ways to train in less memory, from the first to the last resort, and how much each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..devices import free_memory, gigabytes, precision
from ..errors import RequestError
from ..events import Events
from .finetune_config import FinetuneConfig
from .network import SegmentationNetwork

# Weight, gradient, two moments, average.
_COPIES = 5
# The largest activations have a gradient at the same time, and libraries need room to work in.
_OVERHEAD, _WORKSPACE = 1.4, 300e6
# Memory that others may want meanwhile stays free.
_USED_SHARE = 0.85
# How much of the activations remain in half precision, and when each block is computed a second time.
_HALF, _RECOMPUTED = 0.6, 0.35
_PROBE = 4  # tokens along each axis


@dataclass(frozen=True)
class MemoryUse:
    """How a training step uses memory.

    Attributes:
        crops: crops in the network at a time; the batch is made of several such parts if it is larger.
        lean: compute in half precision, and compute blocks again in the backward pass instead of keeping their results.
        crop: crop size in voxels, [I, J, K].
    """

    crops: int
    lean: bool
    crop: tuple[int, int, int]

    def describe(self) -> str:
        """In words."""
        how = f"{self.crops} crop{'s' if self.crops > 1 else ''} of {' x '.join(map(str, self.crop))} voxels at a time"
        return how + (", half precision and recomputation" if self.lean else "")


class MemoryLadder:
    """The steps of one run, shared by all its trainings: what did not fit once is not tried again.

    Args:
        token_patch: of the backbone; crops stay multiples of it, and at least two of it.
    """

    def __init__(self, config: FinetuneConfig, token_patch: Sequence[int]) -> None:
        self.uses = _uses(config, token_patch)
        self.level = 0

    @property
    def use(self) -> MemoryUse:
        """What holds now."""
        return self.uses[self.level]

    @property
    def last(self) -> bool:
        """Whether there is nothing smaller."""
        return self.level == len(self.uses) - 1

    def plan(self, network: SegmentationNetwork, device: torch.device, events: Events) -> None:
        """Begin with the first way that fits into what is free on `device`, and report it.

        Raises:
            RequestError: even the last one does not fit.
        """
        free = free_memory(device)
        needs = training_bytes(network, self.uses, device)
        fitting = [level for level, need in enumerate(needs) if need <= _USED_SHARE * free]
        if not fitting:
            raise RequestError(
                f"training needs about {gigabytes(needs[-1])} of memory and {gigabytes(free)} are free on {device}; "
                "close other programs, or choose another --device"
            )
        self.level = max(self.level, fitting[0])
        if fitting[0]:
            events.warning(
                f"{gigabytes(needs[0])} of memory would be needed and {gigabytes(free)} are free on {device}: "
                f"training with {self.use.describe()}."
            )
        need = needs[self.level]
        events.emit(
            "estimate",
            memory_bytes=need,
            free_bytes=free,
            message=f"Training will take about {gigabytes(need)} of memory; {gigabytes(free)} are free on {device}.",
        )


def training_bytes(network: SegmentationNetwork, uses: Sequence[MemoryUse], device: torch.device) -> list[int]:
    """Estimates of what training takes on `device`, from what a forward pass of a small crop keeps.

    Args:
        network: on the CPU.
        device: decides the precision.

    Returns:
        Bytes, one number for each of `uses`.
    """
    config = network.backbone.config
    side = [_PROBE * patch for patch in config.patch_size]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    training = network.training
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network.train()(torch.zeros(1, config.channels, *side))
    network.train(training)
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    activations = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    # The loss makes probabilities, targets and their gradients in single precision.
    loss = 6 * sum(level.numel() * 4 for level in logits)
    parameters = sum(parameter.numel() * 4 for parameter in network.parameters())
    half = precision(device) != torch.float32
    needs = []
    for use in uses:
        share = (_HALF if half or use.lean else 1.0) * (_RECOMPUTED if use.lean else 1.0)
        crops = use.crops * prod(use.crop) / prod(side)
        needs.append(round(_COPIES * parameters + _OVERHEAD * crops * (share * activations + loss) + _WORKSPACE))
    return needs


def recompute(network: nn.Module) -> None:
    """Let the blocks of a network be computed a second time in the backward pass instead of being kept."""
    for group in network.modules():
        if isinstance(group, nn.ModuleList):
            for block in group:
                if not isinstance(block.forward, partial):
                    block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def _uses(config: FinetuneConfig, token_patch: Sequence[int]) -> list[MemoryUse]:
    uses = [MemoryUse(config.batch, False, config.crop)]
    while uses[-1].crops > 1:
        uses.append(MemoryUse(uses[-1].crops // 2, False, config.crop))
    uses.append(MemoryUse(1, True, config.crop))
    while True:
        crop = list(uses[-1].crop)
        # The longest side that can be halved and stays at two tokens or more.
        halved = [max(2, side // token // 2) * token for side, token in zip(crop, token_patch, strict=True)]
        axis = max(range(3), key=lambda axis: (halved[axis] < crop[axis], crop[axis]))
        if halved[axis] >= crop[axis]:
            return uses
        crop[axis] = halved[axis]
        uses.append(MemoryUse(1, True, (crop[0], crop[1], crop[2])))
