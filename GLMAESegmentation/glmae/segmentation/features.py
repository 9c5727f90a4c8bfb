"""A scan as one short vector, to tell how alike two scans are to the network."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ..devices import autocast
from .network import SegmentationNetwork


def scan_features(
    network: SegmentationNetwork, image: np.ndarray, patch: tuple[int, int, int], device: torch.device
) -> np.ndarray:
    """The backbone's last tokens, averaged over at most eight windows at the corners of the scan.

    Args:
        network: the backbone of it is used.
        image: prepared scan [C, I, J, K]; where it is smaller than a window, its border values go on.
        patch: window size in voxels, multiples of the token patch.
        device: where the network is.

    Returns:
        [width] float32.
    """
    sides = image.shape[1:]
    starts = [sorted({0, max(0, side - window)}) for side, window in zip(sides, patch, strict=True)]
    last = len(network.backbone.blocks) - 1
    vectors = []
    network.eval()
    for corner in itertools.product(*starts):
        box = tuple(slice(start, start + window) for start, window in zip(corner, patch, strict=True))
        window = np.asarray(image[(slice(None), *box)], dtype=np.float32)
        missing = [(0, side - have) for side, have in zip(patch, window.shape[1:], strict=True)]
        window = np.pad(window, [(0, 0), *missing], mode="edge")
        with torch.inference_mode(), autocast(device):
            (tokens,) = network.backbone.features(torch.from_numpy(window)[None].to(device), [last])
        vectors.append(tokens.float().mean(dim=(0, 2, 3, 4)).cpu().numpy())
    return np.asarray(np.mean(vectors, axis=0), dtype=np.float32)
