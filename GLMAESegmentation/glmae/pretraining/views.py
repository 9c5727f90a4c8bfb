"""Global and local views: cut out of one neighborhood of a scan, resized in batches on the device.

Everything random in a step is a function of (seed, step, volume), so that a resumed run needs no generator's state.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..devices import CPU
from .configuration import PretrainConfig
from .further_term import FurtherTerm

# A neighborhood of nothing but air teaches nothing; scans are normalized, so tissue varies by about 1.
LEAST_DEVIATION, TRIES, STRIDE = 0.1, 8, 4
# Of a scan that exists in two appearances, student and teacher see different ones in this share of the volumes.
TWO_APPEARANCES = 0.7
# Purposes of random streams.
ORDER, VIEWS, MASKS, FURTHER, ANCHORS = 0, 1, 2, 3, 4


class Scans(Protocol):
    """Prepared scans, for instance a `ScanStore`."""

    def __len__(self) -> int:
        """How many there are."""

    def image(self, index: int, /) -> np.ndarray:
        """Scan `index`, [C, I, J, K], normalized; may be memory-mapped."""


@dataclass(frozen=True)
class Neighborhoods:
    """What is read from the scans for one step, on the CPU; of a GPU's, what the further term reads is there already.

    Attributes:
        regions: [B, C, I, J, K]; smaller ones are continued at their border.
        global_boxes: first corner and extent of each global view in voxels of its region, float32 [B, p, 2, 3].
        local_boxes: the same for local views, [B, q, 2, 3].
        global_jitter: contrast and brightness of each view, float32 [B, p, 2].
        local_jitter: the same for local views, [B, q, 2].
        generators: for the masks, one a volume.
        further: what the further term has read, if there is one.
        anchors: the same regions as the teacher sees them, pictured in another way where a scan is there in two
            appearances; None where student and teacher see the same.
    """

    regions: Tensor
    global_boxes: Tensor
    local_boxes: Tensor
    global_jitter: Tensor
    local_jitter: Tensor
    generators: list[torch.Generator]
    further: tuple[Tensor, ...] = ()
    anchors: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Of memory, without the few numbers of the boxes."""
        beside = 0 if self.anchors is None else self.anchors.nbytes
        return self.regions.nbytes + beside + sum(part.nbytes for part in self.further)

    def pinned(self) -> Neighborhoods:
        """The same in memory that a GPU reads while the host goes on."""
        return self._moved(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())

    def to(self, device: torch.device) -> Neighborhoods:
        """The same on `device`; if pinned, the host does not wait for it."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Neighborhoods:
        moved: dict[str, Any] = {name: move(each) for name, each in vars(self).items() if isinstance(each, Tensor)}
        return replace(self, **moved, further=tuple(map(move, self.further)))


def generator(seed: int, step: int, volume: int, purpose: int) -> torch.Generator:
    """An independent stream of random numbers, the same on every machine."""
    state = np.random.SeedSequence([seed & (2**64 - 1), step, volume, purpose]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) & (2**63 - 1))


def scan_of(seed: int, position: int, scans: int) -> int:
    """The scan at `position` of an endless sequence that shuffles all scans anew in each epoch."""
    epoch, place = divmod(position, scans)
    return int(torch.randperm(scans, generator=generator(seed, epoch, 0, ORDER))[place])


def read_neighborhoods(
    config: PretrainConfig,
    scans: Scans,
    step: int,
    device: torch.device = CPU,
    further: FurtherTerm | None = None,
) -> Neighborhoods:
    """Choose the scans, neighborhoods and views of one step and read the voxels they need.

    Args:
        step: number of the step, from 0.
        device: where `further` reads; all else is read on the CPU.
    """
    regions, anchors, drawn, parts = [], [], [], []
    backbone = config.backbone
    for volume in range(config.batch):
        index = scan_of(config.seed, step * config.batch + volume, len(scans))
        appearances = _appearances(scans, index) if further is not None or config.uses_teacher else None
        image = scans.image(index) if appearances is None else appearances[0]
        random = generator(config.seed, step, volume, VIEWS)
        box = _neighborhood(config, image, random)
        region = np.asarray(image[box])
        regions.append(region)
        chance = float(torch.rand((), generator=generator(config.seed, step, volume, ANCHORS)))
        anchors.append(region if appearances is None or chance >= TWO_APPEARANCES else np.asarray(appearances[1][box]))
        sides = torch.tensor(region.shape[1:], dtype=torch.float32)
        drawn.append(
            (
                _boxes(config.global_views, backbone.global_view, config.global_scale, sides, random),
                _boxes(config.local_views, backbone.local_view, config.local_scale, sides, random),
                _jitter(config.global_views, config.intensity_jitter, random),
                _jitter(config.local_views, config.intensity_jitter, random),
            )
        )
        if further is not None:
            parts.append(further.read(image, appearances, [config.seed & (2**64 - 1), step, volume, FURTHER], device))
    global_boxes, local_boxes, global_jitter, local_jitter = map(torch.stack, zip(*drawn, strict=True))
    return Neighborhoods(
        regions=torch.from_numpy(_stacked(regions)),
        global_boxes=global_boxes,
        local_boxes=local_boxes,
        global_jitter=global_jitter,
        local_jitter=local_jitter,
        generators=[generator(config.seed, step, volume, MASKS) for volume in range(config.batch)],
        further=tuple(map(torch.stack, zip(*parts, strict=True))),
        anchors=None if all(map(operator.is_, anchors, regions)) else torch.from_numpy(_stacked(anchors)),
    )


def _appearances(scans: Scans, index: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The scan pictured in two ways, where the collection has it so (`SyntheticScans`)."""
    pictured: Callable[[int], tuple[np.ndarray, np.ndarray] | None] | None = getattr(scans, "appearances", None)
    return None if pictured is None else pictured(index)


def cut_views(regions: Tensor, boxes: Tensor, jitter: Tensor, side: int) -> Tensor:
    """Resample boxes of regions to cubes, trilinearly, all in one call on the regions' device.

    Args:
        regions: [B, C, I, J, K].
        boxes: first corner and extent in voxels, [B, V, 2, 3]; corner 0 is the outer face of voxel 0.
        jitter: factor and offset of the intensities, [B, V, 2].
        side: voxels of a view along each axis.

    Returns:
        float32 [B, V, C, side, side, side].
    """
    if regions.device.type == "cpu":
        return cut_one_by_one(regions, boxes, jitter, side)
    volumes, views = boxes.shape[:2]
    # Filled where they are needed: a copy from the host would have to wait for the device.
    sides = torch.stack([torch.full((), float(side), device=regions.device) for side in regions.shape[2:]])
    corner, extent = boxes.to(regions.device).unbind(dim=2)  # [B, V, 3]
    # affine_grid maps -1..1 over the view to -1..1 over the region, axes in the order K, J, I.
    scale = (extent / sides).flip(2)
    center = ((2 * corner + extent) / sides - 1).flip(2)
    theta = torch.cat([torch.diag_embed(scale), center[..., None]], dim=3).flatten(0, 1)  # [B * V, 3, 4]
    places = F.affine_grid(theta, [len(theta), 1, side, side, side], align_corners=False)
    # All views of a volume lie behind one another along the first axis, so that its region is never copied.
    places = places.unflatten(0, (volumes, views)).flatten(1, 2)  # [B, V * side, side, side, 3]
    cut = F.grid_sample(regions.float(), places, mode="bilinear", padding_mode="border", align_corners=False)
    cut = cut.unflatten(2, (views, side)).transpose(1, 2)  # [B, V, C, side, side, side]
    factor, offset = jitter.to(cut.device)[:, :, :, None, None, None, None].unbind(dim=2)
    return cut * factor + offset


def cut_one_by_one(regions: Tensor, boxes: Tensor, jitter: Tensor, side: int) -> Tensor:
    """The same as `cut_views`, four times as fast on a CPU: three small matrix products, one an axis."""
    corner, extent = boxes[..., None].unbind(dim=2)  # [B, V, 3, 1]
    places = corner + extent * ((torch.arange(side) + 0.5) / side) - 0.5  # [B, V, 3, side], voxels
    sides = torch.tensor(regions.shape[2:])
    places = torch.minimum(places.clamp(min=0), (sides - 1)[:, None])
    first = places[..., 0].long().tolist()
    last = (torch.minimum(places[..., -1].long() + 1, sides - 1)).tolist()
    views = torch.empty(*boxes.shape[:2], regions.shape[1], side, side, side)
    for volume, region in enumerate(regions):
        for view, place in enumerate(places[volume]):
            reach = [range(low, high + 1) for low, high in zip(first[volume][view], last[volume][view], strict=True)]
            along = [_weights(axis, where) for axis, where in zip(place, reach, strict=True)]  # [side, voxels] each
            cut = region[(slice(None), *(slice(where.start, where.stop) for where in reach))].float()  # [C, i, j, k]
            cut = along[1] @ (cut @ along[2].T)  # [C, i, side, side]
            views[volume, view] = (along[0] @ cut.flatten(2)).unflatten(2, (side, side))
    factor, offset = jitter[:, :, :, None, None, None, None].unbind(dim=2)
    return views.mul_(factor).add_(offset)


def _weights(places: Tensor, voxels: range) -> Tensor:
    """Linear interpolation at `places` [n] between `voxels`, [n, voxels]."""
    distance = places[:, None] - torch.arange(voxels.start, voxels.stop)
    return (1 - distance.abs()).clamp(min=0)


def _neighborhood(config: PretrainConfig, image: np.ndarray, random: torch.Generator) -> tuple[slice, ...]:
    """Where in a scan [C, I, J, K] a region lies, as large as the scan allows and as the views can use."""
    wanted = round(config.neighborhood * config.backbone.global_view)
    sides = [min(wanted, side) for side in image.shape[1:]]
    longest = max(1, math.floor(config.stretch * min(sides)))
    sides = [min(side, longest) for side in sides]
    for _ in range(TRIES):
        places = torch.rand(3, generator=random).tolist()
        starts = [
            int(place * (full - side + 1)) for place, full, side in zip(places, image.shape[1:], sides, strict=True)
        ]
        box = (slice(None), *(slice(start, start + side) for start, side in zip(starts, sides, strict=True)))
        if tuple(sides) == tuple(image.shape[1:]):
            break
        with np.errstate(invalid="ignore"):  # infinite voxels are reported as a loss that is not finite
            deviation = float(np.std(image[box][:, ::STRIDE, ::STRIDE, ::STRIDE], dtype=np.float64))
        if deviation >= LEAST_DEVIATION:
            break
    return box


def _boxes(views: int, side: int, scale: tuple[float, float], region: Tensor, random: torch.Generator) -> Tensor:
    """Random boxes [V, 2, 3] in a region of `region` [3] voxels; all axes of a box share one magnification.

    Where the region is too small for the largest box, the boxes shrink in proportion and are magnified more.
    """
    low, high = scale
    drawn = torch.rand(views, 4, generator=random)
    share = (low / high) ** drawn[:, :1]  # log-uniform between low / high and 1
    extent = share * torch.clamp(region, max=side * high)  # [V, 3]
    corner = drawn[:, 1:] * (region - extent)
    return torch.stack([corner, extent], dim=1)


def _jitter(views: int, size: float, random: torch.Generator) -> Tensor:
    """Contrast and brightness [V, 2]."""
    drawn = (2 * torch.rand(views, 2, generator=random) - 1) * size
    return torch.stack([drawn[:, 0].exp(), drawn[:, 1]], dim=1)


def _stacked(regions: list[np.ndarray]) -> np.ndarray:
    """Regions [C, I, J, K] of different sizes in one array; smaller ones are continued at their far border."""
    largest = [max(region.shape[axis] for region in regions) for axis in range(4)]
    stacked = np.empty((len(regions), *largest), dtype=regions[0].dtype)
    for place, region in zip(stacked, regions, strict=True):
        missing = [(0, wide - side) for wide, side in zip(largest, region.shape, strict=True)]
        place[...] = np.pad(region, missing, mode="edge") if any(after for _, after in missing) else region
    return stacked
