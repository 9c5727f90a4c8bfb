"""Class probabilities of a whole prepared scan, window by window, in slabs along its last axis.

Windows and their weights are those of MONAI's `sliding_window_inference` (overlap one half, Gaussian), and so is the
result; but only one slab of windows is held at a time, and the network sees only windows that hold something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor, nn

from ..devices import autocast
from .channels_last import channels_last
from .location_prior import LocationFactors

OVERLAP = 0.5
# A window in which no channel varies by more than this (in standard deviations) is as good as constant.
CONSTANT = 1e-3
# What one forward pass, and one slab, may take of a GPU with 4 GB; a larger slab is kept in main memory.
PASS_BYTES = 1_000_000_000
SLAB_BYTES = 2_000_000_000
# Probabilities of so many voxels and classes are worked on together.
CACHED = 64_000
# The activations of a network take about this many bytes a voxel in half precision, its output apart.
ACTIVATION_BYTES = 250

Patch = tuple[int, int, int]


@dataclass(frozen=True)
class Slab:
    """Finished planes of the scan; the memory is used again for the next slab.

    Attributes:
        start: first plane, along K.
        sums: [n+1, I, J, planes] float16, probabilities times the weights of their windows; background first. Half
            precision keeps three digits, and has half the memory to move.
        weights: [I, J, planes] float32, sums of these weights.
    """

    start: int
    sums: Tensor
    weights: Tensor

    @property
    def end(self) -> int:
        """One past the last plane."""
        return self.start + self.sums.shape[-1]

    @torch.inference_mode()
    def winners(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of the most probable class, uint8, and its probability, float16; both [I, J, planes]."""
        # Half-precision numbers that are not negative are in the order of their bits; with the class behind them one
        # maximum finds both, and of equal ones the first class.
        bits = self.sums.view(torch.int16)
        classes = torch.arange(255, 255 - len(bits), -1, dtype=torch.int32, device=bits.device)
        numbers = torch.empty(bits.shape[1:], dtype=torch.uint8, device=bits.device)
        largest = torch.empty(bits.shape[1:], dtype=torch.float16, device=bits.device)
        thickness = len(numbers) if bits.device.type != "cpu" else max(1, CACHED // max(1, bits[:, 0].numel()))
        for start in range(0, len(numbers), thickness):
            rows = slice(start, start + thickness)
            highest = bits[:, rows].int().mul_(256).add_(classes.view(-1, 1, 1, 1)).amax(dim=0)
            numbers[rows] = 255 - (highest & 255)
            largest[rows] = highest.bitwise_right_shift_(8).short().view(torch.float16) / self.weights[rows]
        return np.asarray(numbers.cpu().numpy()), np.asarray(largest.cpu().numpy())

    @torch.inference_mode()
    def probabilities(self) -> np.ndarray:
        """[n+1, I, J, planes] float16, of sum 1 over the classes."""
        found = torch.empty(self.sums.shape, dtype=torch.float16)
        for part, sums in zip(found, self.sums, strict=True):
            part.copy_(sums / self.weights)
        return np.asarray(found.numpy())


@torch.inference_mode()
def probability_slabs(
    network: nn.Module,
    image: np.ndarray,
    patch: Patch,
    device: torch.device,
    *,
    air: Sequence[float | None] = (),
    location: LocationFactors | None = None,
    windows: int | None = None,
    on_window: Callable[[], None] | None = None,
) -> Iterator[Slab]:
    """Run the network over overlapping windows, weighted by a Gaussian; give the planes that are finished.

    Constant windows (padding, air that the normalisation cut off) all give the same output, which is computed once.

    Args:
        network: gives a list of logits, full resolution first.
        image: prepared scan [C, I, J, K] float32; may be memory-mapped. Where it is smaller than a window, its border
            values go on, as in the training crops.
        patch: window size in voxels, multiples of the token patch.
        device: where to compute.
        air: for each channel, the value up to which a voxel is air; a window of air only is taken to have its lowest
            value throughout. None or nothing: only constant windows are empty.
        location: where each class is expected, by which the probabilities are weighed; None: anywhere.
        windows: windows per forward pass; None: as many as are good for the device.
        on_window: called for each window; may raise to stop.

    Yields:
        Slabs that follow each other from the first plane to the last.
    """
    shape = image.shape[1:]
    image, offset = _padded(image, patch)
    accumulation = _Accumulation(network, image, patch, device, windows)
    starts = _starts(image.shape[1:], patch)
    inner = tuple(slice(begin, begin + side) for begin, side in zip(offset[:2], shape[:2], strict=True))
    for number, k in enumerate(starts[2]):
        for i in starts[0]:
            for j in starts[1]:
                if on_window is not None:
                    on_window()
                window = image[:, i : i + patch[0], j : j + patch[1], k : k + patch[2]]
                empty = _constant(window, air)
                if empty is None:
                    accumulation.add(window, (i, j))
                else:
                    accumulation.add_empty(empty, (i, j))
        accumulation.flush()
        following = starts[2][number + 1] if number + 1 < len(starts[2]) else k + patch[2]
        # Along K, too, only the planes of the scan itself are given.
        first, last = max(k, offset[2]), min(following, offset[2] + shape[2])
        if first < last:
            sums, weights = accumulation.sums, accumulation.weights
            planes = slice(first - k, last - k)
            sums, weights = sums[(slice(None), *inner, planes)], weights[(*inner, planes)]
            if location is not None:
                weights = location.weigh(sums, weights, slice(first - offset[2], last - offset[2]))
            yield Slab(first - offset[2], sums, weights)
        accumulation.move_on(following - k)


def class_probabilities(
    network: nn.Module,
    image: np.ndarray,
    patch: Patch,
    device: torch.device,
    on_window: Callable[[], None] | None = None,
    location: LocationFactors | None = None,
) -> np.ndarray:
    """All slabs of `probability_slabs` in one array, for small scans.

    Returns:
        [n+1, I, J, K] float32; background first; sums to one over the classes.
    """
    slabs = probability_slabs(network, image, patch, device, location=location, on_window=on_window)
    return np.concatenate([slab.probabilities() for slab in slabs], axis=-1, dtype=np.float32)


class _Accumulation:
    """The weighted sums of one slab of windows, and the windows that wait to be run together."""

    def __init__(
        self, network: nn.Module, image: np.ndarray, patch: Patch, device: torch.device, windows: int | None
    ) -> None:
        self._network = channels_last(network.eval(), device)
        self._patch, self._device, self._channels = patch, device, image.shape[0]
        self._section = image.shape[1:3]
        self._windows = windows
        self._waiting: list[tuple[Tensor, tuple[int, int]]] = []
        self._importance: Tensor = compute_importance_map(patch, mode="gaussian", device=device)
        self._empty: tuple[tuple[float, ...], Tensor] | None = None
        self.sums = torch.empty(0)
        self.weights = torch.empty(0)

    def add(self, window: np.ndarray, at: tuple[int, int]) -> None:
        """Add the network's output for a window [C, ...patch] at (i, j) of the section."""
        self._waiting.append((torch.from_numpy(np.ascontiguousarray(window, dtype=np.float32)), at))
        if len(self._waiting) == (self._windows or 1):
            self.flush()

    def add_empty(self, values: tuple[float, ...], at: tuple[int, int]) -> None:
        """Add the network's output for a window with one value in each channel."""
        if self._empty is None or self._empty[0] != values:
            window = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1).expand(1, -1, *self._patch)
            (logits,) = self._logits(window)
            weighted = torch.empty(logits.shape, dtype=torch.float16, device=logits.device)
            for planes in self._pieces:
                weighted[:, planes] = self._weighted(logits, planes)
            self._empty = values, weighted
        self._section_at(self.sums, at).add_(self._empty[1])
        self._section_at(self.weights, at).add_(self._importance)

    def flush(self) -> None:
        """Run the windows that wait."""
        if not self._waiting:
            return
        windows = torch.stack([window for window, _ in self._waiting])
        for logits, (_, at) in zip(self._logits(windows), self._waiting, strict=True):
            sums = self._section_at(self.sums, at)
            for planes in self._pieces:
                sums[:, planes].add_(self._weighted(logits, planes))
            self._section_at(self.weights, at).add_(self._importance)
        self._waiting.clear()

    def move_on(self, planes: int) -> None:
        """Drop the first planes and make room for as many at the end."""
        kept = self._patch[2] - planes
        for part in (*self.sums, self.weights):
            if kept:
                rest = part[..., planes:]
                part[..., :kept].copy_(rest if planes >= kept else rest.clone())
            part[..., kept:].zero_()

    def _logits(self, windows: Tensor) -> Tensor:
        """Of windows [B, C, ...patch]: [B, n+1, ...patch], where the sums are."""
        with autocast(self._device):
            logits: Tensor = self._network(windows.to(self._device))[0]
        if not len(self.sums):
            self._begin(logits.shape[1])
        return logits.to(self.sums.device)

    def _weighted(self, logits: Tensor, planes: slice) -> Tensor:
        """The weighted probabilities of some planes of a window's logits [n+1, ...patch], float16 like the sums."""
        shares = logits[:, planes].float()
        shares = (shares - shares.amax(dim=0)).exp_()
        return shares.mul_(self._importance[planes] / shares.sum(dim=0)).half()

    def _begin(self, outputs: int) -> None:
        """Make the sums, once it is known how many classes there are."""
        size = (outputs, *self._section, self._patch[2])
        on_device = self._device.type == "cpu" or 2 * math.prod(size) <= SLAB_BYTES
        where = self._device if on_device else torch.device("cpu")
        self.sums = torch.zeros(size, dtype=torch.float16, device=where)
        self.weights = torch.zeros(size[1:], dtype=torch.float32, device=where)
        self._importance = self._importance.to(where)
        # A few planes at a time stay in the CPU's cache; a GPU is asked once.
        thickness = self._patch[0] if where.type != "cpu" else max(1, CACHED // (outputs * math.prod(self._patch[1:])))
        self._pieces = [slice(at, at + thickness) for at in range(0, self._patch[0], thickness)]
        if self._windows is None:
            # On the CPU a single window stays in its cache.
            bytes_each = math.prod(self._patch) * (ACTIVATION_BYTES + 8 * outputs)
            self._windows = 1 if self._device.type == "cpu" else max(1, PASS_BYTES // bytes_each)

    def _section_at(self, values: Tensor, at: tuple[int, int]) -> Tensor:
        """The part of [..., I, J, planes] under a window."""
        (i, j), (height, width, _) = at, self._patch
        return values[..., i : i + height, j : j + width, :]


def _padded(image: np.ndarray, patch: Patch) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The image, at least as large as a window, and where in it the scan begins."""
    missing = [max(0, side - have) for side, have in zip(patch, image.shape[1:], strict=True)]
    before = missing[0] // 2, missing[1] // 2, missing[2] // 2
    if any(missing):
        margins = [(first, total - first) for first, total in zip(before, missing, strict=True)]
        image = np.pad(image, [(0, 0), *margins], mode="edge")
    return image, before


def _starts(shape: Sequence[int], patch: Patch) -> list[list[int]]:
    """The first voxels of the windows along each axis."""
    steps = [max(1, int(side * (1 - OVERLAP))) for side in patch]
    found = dense_patch_slices(shape, patch, steps)
    return [sorted({window[axis].start for window in found}) for axis in range(3)]


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
