"""Segmenting scans with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..devices import is_out_of_memory, release
from ..errors import RequestError, Stopped
from ..events import Events, recorded, silent
from ..job import begin
from ..scans.case import Case
from ..scans.cases import find_images
from ..scans.dicom import DicomSeries
from ..scans.geometry import Geometry
from ..scans.normalization import air
from ..scans.restoring import interpolated_classes, restore_classes
from .batch import BatchRun
from .class_slabs import Prior, Slab, class_slabs
from .dicom_seg import check_installed, check_source
from .model import Model, load_model
from .prepared_scan import PreparedScan, read_scan
from .report import ModelMark
from .result import FORMATS, Result
from .scan_maps import ScanMaps, scan_maps
from .single_piece import keep_largest_parts, single_pieces

# A first result is kept up to so many bytes; a larger one is made again.
KEPT_BYTES = 300_000_000


def segment(
    *,
    model: Path,
    images: Sequence[Path],
    out: Path,
    file_format: str = "seg.nrrd",
    part: tuple[int, int] = (1, 1),
    device: str = "auto",
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Segment scans; the same as `glmae segment`. A result that is there already is kept, its scan passed over.

    Args:
        model: see `glmae.segment`, as of the other arguments that are not listed.
        out: folder for `NAME.seg.nrrd`, `NAME.nii.gz` or `NAME.dcm` and for `report/`; made if needed.
        part: (i, n): every n-th of the scans, from the i-th on (from 1), so that n processes share them.
        should_stop: asked between windows; True stops, finished results stay.

    Returns:
        The names of the cases that failed; each was reported as an event.

    Raises:
        RequestError: no scans were found, or results cannot go to `out`.
        ModelError: the model folder cannot be used.
        Stopped: the user stopped.
    """
    events = events or silent()
    if file_format not in FORMATS:
        raise RequestError(f"there is no format '{file_format}'; choose one of {', '.join(FORMATS)}")
    if file_format == "dcm":
        check_installed()
    number, count = part
    if not 1 <= number <= count:
        raise RequestError(f"there is no part {number} of {count}; choose one from 1/{count} to {count}/{count}")
    heard: list[dict[str, Any]] = []
    cases = find_images(list(images), events=recorded(heard))
    # Results that lie beside the scans are no scan with many channels.
    cases = [case for case in cases if not _lies_in(case, Path(out))][number - 1 :: count]
    _check_out(Path(out), cases, file_format)
    opened = load_model(Path(model), torch.device("cpu"))
    words = {"cases": len(cases), "classes": list(opened.classes.names)}
    job = begin("segment", device, events, should_stop, "run the same command again to go on", **words)
    for event in heard:
        events.emit(**event)
    if count > 1:
        events.info(f"Part {number} of {count} of the scans: {len(cases)}.")
    batch = BatchRun(
        cases,
        Path(out),
        file_format,
        classes=opened.classes,
        fingerprint=opened.fingerprint,
        model=ModelMark.of(Path(model)),
        job=job,
    )

    def read(case: Case, beside: bool) -> PreparedScan:
        if file_format == "dcm":
            check_source(case, opened.classes)
        return read_scan(opened, case, events, beside)

    def segment_one(case: Case, scan: PreparedScan) -> Result:
        for device, windows, remark in _attempts(job.device):
            if remark:
                events.warning(f"{case.name} does not fit into the GPU's memory; {remark}.", case=case.name)
            opened.network.to(device)
            try:
                return segment_case(opened, case, device, events, should_stop, scan=scan, windows=windows)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            release(device)
        raise MemoryError

    return batch.run(read, segment_one)


def _attempts(device: torch.device) -> list[tuple[torch.device, int | None, str]]:
    """Where, with how many windows at a time, and what is said: a GPU whose memory is not enough steps down."""
    if device.type == "cpu":
        return [(device, None, "")]
    cpu = torch.device("cpu")
    return [(device, None, ""), (device, 1, "now one window at a time"), (cpu, None, "the CPU segments it")]


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
    priors: list[Prior] = [model.location.on(image, grid.spacing)] if model.location else []

    def slabs() -> Iterator[tuple[Slab, np.ndarray]]:
        for slab in _fused_slabs(model, maps, grid, device, priors, on_block):
            if on_slab is not None:
                on_slab(slab)
            winners, largest = slab.winners()
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
    shares = keep_largest_parts(numbers, single_pieces(model.fingerprint, model.classes))
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


def _lies_in(case: Case, out: Path) -> bool:
    """Whether a case is a folder of channels, and that folder is `out`."""
    parents = {image.parent.resolve() for image in case.images if isinstance(image, Path)}
    return case.name == out.name and parents == {out.resolve()}


def _check_out(out: Path, cases: Sequence[Case], file_format: str) -> None:
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file; choose a folder with --out")
    for case in cases:
        target = out / f"{case.name}.{file_format}"
        sources = [
            file for image in case.images for file in (image.files if isinstance(image, DicomSeries) else [image])
        ]
        if target.exists() and any(target.samefile(file) for file in sources):
            raise RequestError(f"the result of {target} would have the name of the scan; choose another --out folder")
