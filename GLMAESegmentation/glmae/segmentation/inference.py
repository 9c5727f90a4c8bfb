"""Segmenting one scan with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import ScanError, Stopped
from ..events import Events, silent
from ..scans.case import Case
from ..scans.geometry import Geometry
from ..scans.image import read_channels
from ..scans.memory import check_memory
from ..scans.normalization import air
from ..scans.preparation import prepare_image
from ..scans.restoring import interpolated_classes, restore_classes
from ..scans.store import stored
from .class_slabs import Prior, Slab, class_slabs
from .model import Model
from .network import ScanMaps
from .result import Result
from .scan_maps import scan_maps
from .single_piece import certainty_of, certainty_on, keep_largest_parts, single_pieces

# A first result is kept up to so many bytes; a larger one is made again.
KEPT_BYTES = 300_000_000


@dataclass(frozen=True)
class PreparedScan:
    """A scan as it was read, and as the network sees it.

    Attributes:
        image: prepared, [C, I, J, K] float16, as `ScanStore` has it: a scan gives the same result on every way.
        grid: of the prepared scan.
    """

    images: tuple[sitk.Image, ...]
    image: np.ndarray
    grid: Geometry


def read_scan(model: Model, case: Case, events: Events, beside: bool = False) -> PreparedScan:
    """Read and prepare a case.

    Args:
        beside: while another scan is in work: it has to leave half of the free memory to that one.

    Raises:
        ScanError: it cannot be read, does not fit into memory, or has another number of channels than the model.
    """
    check_scan(model, case, 0.5 if beside else 1.0)
    images = read_channels(case.images, events)
    image, grid = prepare_image(images, model.preparation)
    return PreparedScan(tuple(images), stored(image), grid)


def check_scan(model: Model, case: Case, share: float = 1.0) -> None:
    """Refuse a case that cannot be segmented, by its headers; `share` is that of the free memory it may take.

    Raises:
        ScanError: it does not fit into memory, or has another number of channels than the model.
    """
    channels = len(model.preparation.normalization)
    if len(case.images) != channels:
        raise ScanError(f"{case.name}: {len(case.images)} channels, but the model was trained with {channels}")
    check_memory(case.name, case.images, model.preparation, len(model.classes), model.config.crop[2], share)


def segment_case(
    model: Model,
    case: Case,
    device: torch.device,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    scan: PreparedScan | None = None,
    maps: ScanMaps | None = None,
    windows: int | None = None,
    on_slab: Callable[[Slab], None] | None = None,
) -> Result:
    """One case: read, prepare, run the network, bring the classes back to the scan's own grid, keep largest parts.

    Args:
        model: opened on `device`.

    Raises:
        ScanError: the scan cannot be read, or has another number of channels than the model.
        Stopped: the user stopped.
    """
    events = events or silent()
    scan = scan or read_scan(model, case, events)
    image, grid, source = scan.image, scan.grid, Geometry.of(scan.images[0])

    def check() -> None:
        if should_stop():
            raise Stopped("stopped; run the same command again to go on")

    if maps is None:
        maps = scan_maps(
            model.network,
            image,
            model.config.crop,
            device,
            air=[air(entry) for entry in model.preparation.normalization],
            windows=windows,
            on_window=check,
        )
    result = classify_scan(model, maps, image, grid, source, device, on_block=check, on_slab=on_slab)
    return replace(result, images=scan.images)


def classify_scan(
    model: Model,
    maps: ScanMaps,
    image: np.ndarray,
    grid: Geometry,
    source: Geometry,
    device: torch.device,
    *,
    values: Sequence[int] | None = None,
    on_block: Callable[[], None] | None = None,
    on_slab: Callable[[Slab], None] | None = None,
) -> Result:
    """From the maps of a scan to its segmentation, on the scan's own grid.

    Args:
        model: opened on `device`; its network made the maps.
        image: the prepared scan, [C, I, J, K].
        grid: of `image`.
        source: of the scan.
        values: of the classes 1..n in the result; None: those of the model.
        on_slab: called with each slab of final probabilities on `grid`, from the first to the last.
    """
    voxels, doubts = np.zeros(len(model.classes) + 1), np.zeros(len(model.classes) + 1)
    certainty = np.zeros(grid.size, dtype=np.uint8)
    priors: list[Prior] = [model.location.on(image, grid.spacing)] if model.location else []

    def slabs() -> Iterator[tuple[Slab, np.ndarray]]:
        for slab in _fused_slabs(model, maps, grid, device, priors, on_block):
            if on_slab is not None:
                on_slab(slab)
            winners, largest = slab.winners()
            certainty[..., slab.start : slab.end] = certainty_of(largest)
            doubt = 1 - largest.reshape(-1).astype(np.float32)
            voxels[:] += np.bincount(winners.reshape(-1), minlength=len(voxels))
            doubts[:] += np.bincount(winners.reshape(-1), doubt, minlength=len(voxels))
            yield slab, winners

    native = source.along(grid.direction)
    if native.same_grid(grid):
        numbers = np.empty(tuple(reversed(native.size)), dtype=np.uint8)
        for slab, winners in slabs():
            numbers[slab.start : slab.end] = winners.transpose()
    else:
        numbers = interpolated_classes(((slab.start, slab.probabilities()) for slab, _ in slabs()), grid, native)
    values = model.classes.values if values is None else values
    single = single_pieces(model.fingerprint, model.classes)
    shares = keep_largest_parts(numbers, single, certainty_on(native, grid, certainty))
    labels = restore_classes(numbers, native, source, values)
    left_out = {values[number - 1]: share for number, share in shares.items()}
    uncertainty = {value: float(doubts[n] / voxels[n]) for n, value in enumerate(values, 1) if voxels[n]}
    return Result((), labels, uncertainty, left_out)


@torch.inference_mode()
def _fused_slabs(
    model: Model,
    maps: ScanMaps,
    grid: Geometry,
    device: torch.device,
    priors: Sequence[Prior],
    on_block: Callable[[], None] | None,
) -> Iterator[Slab]:
    """The slabs of a scan, weighed by the atlases, too, where the model has some and they fit its first result."""
    slabs = class_slabs(model.network, maps, device, priors, on_block)
    if model.atlases is None:
        yield from slabs
        return
    first, kept, size = [], [], 0
    for slab in slabs:
        first.append(slab.winners()[0])
        size += slab.sums.nbytes
        kept.append(slab)
        if size > KEPT_BYTES:
            kept.clear()
    moved = model.atlases.on(np.concatenate(first, axis=-1), grid.spacing)
    if size > KEPT_BYTES:
        yield from class_slabs(model.network, maps, device, [*priors, *([] if moved is None else [moved])], on_block)
        return
    for slab in kept:
        if moved is not None:
            slab = replace(slab, weights=moved.weigh(slab.sums, slab.weights, slice(slab.start, slab.end)))
        yield slab
