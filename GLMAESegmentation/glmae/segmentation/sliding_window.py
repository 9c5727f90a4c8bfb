"""Class probabilities of a whole prepared scan, window by window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from ..devices import autocast

OVERLAP = 0.5


def class_probabilities(
    network: nn.Module,
    image: np.ndarray,
    patch: tuple[int, int, int],
    device: torch.device,
    windows: int = 1,
    on_window: Callable[[], None] | None = None,
) -> np.ndarray:
    """Run the network over overlapping windows, weighted by a Gaussian.

    Args:
        network: gives a list of logits, full resolution first.
        image: prepared scan [C, I, J, K] float32. Where it is smaller than a window, its border values go on, as in
            the training crops.
        patch: window size in voxels, multiples of the token patch.
        device: where to compute.
        windows: windows per forward pass.
        on_window: called after each forward pass; may raise to stop.

    Returns:
        [n+1, I, J, K] float32 on the CPU; background first; sums to one over the classes.
    """

    def logits(window: Tensor) -> Tensor:
        with autocast(device):
            result: Tensor = network(window)[0]
        if on_window is not None:
            on_window()
        return torch.softmax(result.float(), dim=1)

    network.eval()
    with torch.inference_mode():
        probability = sliding_window_inference(
            inputs=torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None],
            roi_size=patch,
            sw_batch_size=windows,
            predictor=logits,
            overlap=OVERLAP,
            mode="gaussian",
            padding_mode="replicate",
            sw_device=device,
            device=torch.device("cpu"),
        )
    return np.asarray(probability[0].numpy())
