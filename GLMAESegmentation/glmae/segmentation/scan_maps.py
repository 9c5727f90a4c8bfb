"""The maps of a whole prepared scan, joined from those of overlapping windows.

Windows are joined as in MONAI's `sliding_window_inference`, but what is averaged is what the head classifies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from torch import Tensor
from torch.nn import functional as F

from ..backend_cpu import channels_last
from ..devices import autocast, precision
from .network import ScanMaps, SegmentationNetwork, Size

OVERLAP = 0.5
# A window in which no channel varies by more than this (in standard deviations) is as good as constant.
CONSTANT = 1e-3
# What one forward pass may take of a GPU with 4 GB.
PASS_BYTES = 1_000_000_000
# The activations of a network take about this many bytes a voxel in half precision.
ACTIVATION_BYTES = 300


def scan_maps(
    network: SegmentationNetwork,
    image: np.ndarray,
    crop: Size,
    device: torch.device,
    *,
    air: Sequence[float | None] = (),
    windows: int | None = None,
    on_window: Callable[[], None] | None = None,
) -> ScanMaps:
    """Run the network's maps over overlapping windows of a scan.

    Constant windows (padding, air that the normalization cut off) all give the same maps, which are computed once.

    Args:
        image: prepared scan [C, I, J, K]; may be memory-mapped. Where it is smaller than a window, or no multiple of
            the token patch, its border values go on.
        crop: window size in voxels, multiples of the token patch.
        air: for each channel, the value up to which a voxel is air; a window of air only is taken to have its lowest
            value throughout. None or nothing: only constant windows are empty.
        windows: windows per forward pass; None: as many as are good for the device.
        on_window: called for each window; may raise to stop.
    """
    work = maps_by_window(network, image, crop, device, air=air, windows=windows)
    return finished(work, lambda *_: None if on_window is None else on_window())


def finished(work: Generator[tuple[int, int], None, ScanMaps], on_window: Callable[[int, int], None]) -> ScanMaps:
    """Do all of the work of `maps_by_window`; before each window `on_window` is told what that yields."""
    while True:
        try:
            done, total = next(work)
        except StopIteration as end:
            maps: ScanMaps = end.value
            return maps
        on_window(done, total)


@torch.inference_mode()
def maps_by_window(
    network: SegmentationNetwork,
    image: np.ndarray,
    crop: Size,
    device: torch.device,
    *,
    air: Sequence[float | None] = (),
    windows: int | None = None,
) -> Generator[tuple[int, int], None, ScanMaps]:
    """`scan_maps` in steps that can be gone on with at any time.

    Yields:
        Before each window how many are done, and how many there are.
    """
    token = network.backbone.config.patch_size
    first, second, third = image.shape[1:]
    image, before = _padded(image, crop, token)
    joined = _JoinedMaps(network, image.shape[1:], crop, device, windows)
    starts = [_starts(side, window, unit) for side, window, unit in zip(image.shape[1:], crop, token, strict=True)]
    done, total = 0, math.prod(map(len, starts))
    for number, k in enumerate(starts[2]):
        for i in starts[0]:
            for j in starts[1]:
                yield done, total
                window = image[:, i : i + crop[0], j : j + crop[1], k : k + crop[2]]
                joined.add(window, (i, j), _constant(window, air))
                done += 1
        joined.flush()
        last = number + 1 == len(starts[2])
        joined.finish(k, k + crop[2] if last else starts[2][number + 1])
    return ScanMaps(tuple(joined.levels), tuple(joined.strides), token, before, (first, second, third))


class _JoinedMaps:
    """The weighted sums of one slab of windows, and what is finished of the scan's maps."""

    def __init__(
        self,
        network: SegmentationNetwork,
        shape: Sequence[int],
        crop: Size,
        device: torch.device,
        windows: int | None,
    ) -> None:
        self._network = channels_last(network.eval(), device)
        self._shape, self._crop, self._device = shape, crop, device
        self._windows = windows or _windows(crop, device)
        self._waiting: list[tuple[Tensor, tuple[int, int]]] = []
        self._empty: dict[tuple[float, ...], list[Tensor]] = {}
        self._sums: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._importance: list[Tensor] = []
        self.levels: list[Tensor] = []
        self.strides: list[Size] = []

    def add(self, window: np.ndarray, at: tuple[int, int], constant: tuple[float, ...] | None) -> None:
        """Add the maps of a window [C, ...crop] at (i, j) of the section; `constant` are its values, if it is so."""
        if constant is None:
            self._waiting.append((torch.from_numpy(np.ascontiguousarray(window, dtype=np.float32)), at))
            if len(self._waiting) == self._windows:
                self.flush()
            return
        if constant not in self._empty:
            values = torch.tensor(constant, dtype=torch.float32).view(1, -1, 1, 1, 1)
            self._empty = {constant: [level[0] for level in self._maps(values.expand(1, -1, *self._crop))]}
        self._add(self._empty[constant], at)

    def flush(self) -> None:
        """Run the windows that wait."""
        if self._waiting:
            maps = self._maps(torch.stack([window for window, _ in self._waiting]))
            for number, (_, at) in enumerate(self._waiting):
                self._add([level[number] for level in maps], at)
            self._waiting.clear()

    def finish(self, k: int, following: int) -> None:
        """Keep the planes of voxels from `k` on that no later window reaches, and make room for as many."""
        for level, sums, weights, stride in zip(self.levels, self._sums, self._weights, self.strides, strict=True):
            planes = (following - k) // stride[2]
            start = k // stride[2]
            level[..., start : start + planes] = (sums[..., :planes] / weights[..., :planes]).half().cpu()
            for part in (sums, weights):
                rest = part[..., planes:].clone()
                part[..., : rest.shape[-1]] = rest
                part[..., rest.shape[-1] :] = 0

    def _maps(self, windows: Tensor) -> list[Tensor]:
        with autocast(self._device):
            maps: list[Tensor] = self._network.maps(windows.to(self._device))
        if not self.levels:
            self._begin(maps)
        return maps

    def _begin(self, maps: Sequence[Tensor]) -> None:
        """Make the sums, once it is known what the maps are like."""
        importance = compute_importance_map(self._crop, mode="gaussian", device=self._device).float()
        for level in maps:
            a, b, c = (side // places for side, places in zip(self._crop, level.shape[2:], strict=True))
            i, j, k = (side // stride for side, stride in zip(self._shape, (a, b, c), strict=True))
            self.strides.append((a, b, c))
            self.levels.append(torch.empty(level.shape[1], i, j, k, dtype=torch.float16))
            size = (i, j, self._crop[2] // c)
            self._sums.append(torch.zeros(level.shape[1], *size, device=self._device))
            self._weights.append(torch.zeros(size, device=self._device))
            self._importance.append(F.avg_pool3d(importance[None, None], (a, b, c))[0, 0])

    def _add(self, maps: Sequence[Tensor], at: tuple[int, int]) -> None:
        for level, sums, weights, share, stride in zip(
            maps, self._sums, self._weights, self._importance, self.strides, strict=True
        ):
            i, j = at[0] // stride[0], at[1] // stride[1]
            height, width = level.shape[1:3]
            sums[:, i : i + height, j : j + width].addcmul_(level.float(), share)
            weights[i : i + height, j : j + width] += share


def _windows(crop: Size, device: torch.device) -> int:
    """How many windows are run at a time."""
    if device.type == "cpu":
        # In bfloat16 one window stays in the cache; in float32 a batch of one takes a slow way (torch 2.13).
        return 1 if precision(device) == torch.bfloat16 else 2
    return max(1, PASS_BYTES // (math.prod(crop) * ACTIVATION_BYTES))


def _padded(image: np.ndarray, crop: Size, token: Size) -> tuple[np.ndarray, Size]:
    """The image, at least as large as a window and made of whole tokens, and where in it the scan begins."""
    wanted = [
        max(window, math.ceil(side / unit) * unit)
        for side, window, unit in zip(image.shape[1:], crop, token, strict=True)
    ]
    missing = [size - side for size, side in zip(wanted, image.shape[1:], strict=True)]
    before = missing[0] // 2, missing[1] // 2, missing[2] // 2
    if any(missing):
        margins = [(start, total - start) for start, total in zip(before, missing, strict=True)]
        image = np.pad(image, [(0, 0), *margins], mode="edge")
    return image, before


def _starts(side: int, window: int, token: int) -> list[int]:
    """The first voxels of the windows along an axis: half overlap, whole tokens."""
    step = max(token, int(window * (1 - OVERLAP)) // token * token)
    return [*range(0, side - window, step), side - window]


def _constant(window: np.ndarray, air: Sequence[float | None]) -> tuple[float, ...] | None:
    """The value of each channel of an empty window; None: the window holds something."""
    # Few voxels tell of most windows that they hold something.
    for some in (window[:, ::8, ::8, ::8], window):
        values = []
        for number, channel in enumerate(some):
            level = air[number] if number < len(air) else None
            lowest, highest = float(channel.min()), float(channel.max())
            if highest - lowest > CONSTANT and (level is None or highest > level):
                return None
            values.append(round(lowest, 3))
    return tuple(values)
