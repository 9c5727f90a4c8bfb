"""Segmenting scans with a trained model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..devices import choose_device
from ..errors import GLMAEError, RequestError, ScanError, Stopped
from ..events import Events, silent
from ..scans.cases import Case, find_images
from ..scans.geometry import Geometry
from ..scans.image import read_channels
from ..scans.labels import write_labelmap
from ..scans.normalisation import air
from ..scans.preparation import prepare_image
from ..scans.restoring import interpolated_classes, restore_classes
from ..scans.segmentation_file import write_segmentation
from .model import Model, load_model
from .sliding_window import probability_slabs

FORMATS = ("seg.nrrd", "nii.gz")


def segment(
    *,
    model: Path,
    images: Sequence[Path],
    out: Path,
    file_format: str = "seg.nrrd",
    device: str = "auto",
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Segment scans; the same as `glmae segment`. A result that is there already is kept, its scan passed over.

    Args:
        model: folder made by `finetune`.
        images: scans, folders of scans, or lists of paths.
        out: folder for `NAME.seg.nrrd` or `NAME.nii.gz`; made if needed.
        file_format: seg.nrrd or nii.gz.
        device: auto, cpu, cuda or mps.
        events: where to report to.
        should_stop: asked between windows; True stops, finished results stay.

    Returns:
        The names of the cases that failed; each was reported as an event.

    Raises:
        RequestError: no scans were found, or results cannot go to `out`.
        ModelError: the model folder cannot be used.
        Stopped: the user stopped.
    """
    began = time.monotonic()
    events = events or silent()
    cases = find_images(list(images))
    _check_out(Path(out), cases, file_format)
    chosen, reason = choose_device(device)
    opened = load_model(Path(model), chosen)
    events.started("segment", cases=len(cases), classes=list(opened.classes.names), device=str(chosen))
    events.info(reason)
    failed, done = [], 0
    for number, case in enumerate(cases):
        target = Path(out) / f"{case.name}.{file_format}"
        events.progress("segment", number, len(cases), _seconds_left(began, done, len(cases) - number), case=case.name)
        if target.exists():
            events.case(case.name, "skipped", message=f"{target} is there already", file=str(target))
            continue
        if should_stop():
            raise Stopped(f"stopped after {number} of {len(cases)} scans; run the same command again to go on")
        events.case(case.name, "running")
        try:
            labels = segment_case(opened, case, chosen, events, should_stop)
            _write(target, file_format, labels, opened)
            events.case(case.name, "done", file=str(target))
            done += 1
        except Stopped:
            raise
        except GLMAEError as error:
            failed.append(case.name)
            events.case(case.name, "failed", name=type(error).__name__, message=str(error))
        except MemoryError:
            failed.append(case.name)
            message = f"{case.name}: there is not enough memory for this scan; crop it or use a coarser one"
            events.case(case.name, "failed", name="MemoryError", message=message)
    events.progress("segment", len(cases), len(cases), 0.0)
    summary = f"{done} of {len(cases)} scans segmented in {out}"
    events.finished("segment", done=done, failed=failed, out=str(out), message=summary + _failures(failed))
    return failed


def segment_case(
    model: Model,
    case: Case,
    device: torch.device,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> sitk.Image:
    """One case: read, prepare, run the network, bring the classes back to the scan's own grid.

    Returns:
        Label map with the training values of the classes, on the grid of the case's first channel.

    Raises:
        ScanError: the scan cannot be read, or has another number of channels than the model.
    """
    events = events or silent()
    channels = len(model.preparation.normalisation)
    if len(case.images) != channels:
        raise ScanError(f"{case.name}: {len(case.images)} channels, but the model was trained with {channels}")
    scan = read_channels(case.images, events)
    source = Geometry.of(scan[0])
    image, grid = prepare_image(scan, model.preparation)
    del scan  # a whole CT, which is not needed any more

    def check() -> None:
        if should_stop():
            raise Stopped("stopped; run the same command again to go on")

    slabs = probability_slabs(
        model.network,
        image,
        model.config.patch,
        device,
        air=[air(entry) for entry in model.preparation.normalisation],
        on_window=check,
    )
    native = source.oriented()
    if native.same_grid(grid):
        numbers = np.empty(tuple(reversed(native.size)), dtype=np.uint8)
        for slab in slabs:
            numbers[slab.start : slab.end] = slab.class_numbers().transpose()
    else:
        numbers = interpolated_classes(((slab.start, slab.probabilities()) for slab in slabs), grid, native)
    if not numbers.any():
        events.warning(f"{case.name}: nothing was found in this scan", case=case.name)
    return restore_classes(numbers, source, model.classes.values)


def _check_out(out: Path, cases: Sequence[Case], file_format: str) -> None:
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file; choose a folder with --out")
    for case in cases:
        target = out / f"{case.name}.{file_format}"
        if target.exists() and any(target.samefile(image) for image in case.images):
            raise RequestError(f"the result of {target} would have the name of the scan; choose another --out folder")


def _write(target: Path, file_format: str, labels: sitk.Image, model: Model) -> None:
    if file_format == "seg.nrrd":
        write_segmentation(target, labels, model.classes)
    else:
        write_labelmap(target, labels, model.classes)


def _seconds_left(began: float, done: int, left: int) -> float | None:
    return (time.monotonic() - began) / done * left if done else None


def _failures(failed: Sequence[str]) -> str:
    return f"; failed: {', '.join(failed)}." if failed else "."
