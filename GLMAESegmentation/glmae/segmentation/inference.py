"""Segmenting scans with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ..devices import choose_device, is_out_of_memory, own_gpu
from ..errors import RequestError, ScanError, Stopped
from ..events import Events, silent
from ..scans.cases import Case, find_images
from ..scans.dicom import DicomSeries
from ..scans.geometry import Geometry
from ..scans.image import read_channels
from ..scans.memory import check_memory
from ..scans.normalisation import air
from ..scans.preparation import prepare_image
from ..scans.restoring import interpolated_classes, restore_classes
from .batch import Batch
from .dicom_seg import check_installed
from .model import Model, load_model
from .recipes import validation_cases
from .report import ModelMark
from .result import FORMATS, Result
from .sliding_window import Slab, probability_slabs
from .uncertainty import Uncertainty
from .work_sharing import Rank


def segment(
    *,
    model: Path,
    images: Sequence[Path],
    out: Path,
    recipe: str | None = None,
    file_format: str = "seg.nrrd",
    device: str = "auto",
    uncertainty: bool = False,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Segment scans; the same as `glmae segment`. A result that is there already is kept, its scan passed over.

    Several processes (under torchrun, as a SLURM array, or simply started twice) share the scans without overlap.

    Args:
        model: folder made by `finetune`.
        images: scans, folders of scans or DICOM files, or lists of paths.
        out: folder for `NAME.seg.nrrd`, `NAME.nii.gz` or `NAME.dcm` and for `report/`; made if needed.
        recipe: `images` is the folder of this recipe's data set, as published: its validation scans are segmented.
        file_format: seg.nrrd, nii.gz, or dcm (DICOM segmentation, for scans that are DICOM series).
        device: auto, cpu, cuda or mps.
        uncertainty: write `uncertainty/NAME.nii.gz` too: 1 - (largest probability) in percent.
        events: where to report to.
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
    rank = Rank.here()
    passed_over: list[str] = []
    if recipe is None:
        cases = find_images(list(images), passed_over=passed_over.append)
    else:
        cases = validation_cases(recipe, images, events)[0]
    # Results that lie beside the scans are no scan with many channels.
    cases = [case for case in cases if not _lies_in(case, Path(out))]
    _check_out(Path(out), cases, file_format)
    chosen, reason = choose_device(device)
    chosen = own_gpu(chosen)
    opened = load_model(Path(model), chosen)
    events.started("segment", cases=len(cases), classes=list(opened.classes.names), device=str(chosen))
    events.info(reason)
    for message in passed_over:
        events.info(f"Passed over: {message}.")
    if rank.count > 1:
        events.info(f"This is process {rank.number + 1} of {rank.count} that share these scans.")
    batch = Batch(
        cases,
        Path(out),
        file_format,
        classes=opened.classes,
        fingerprint=opened.fingerprint,
        model=ModelMark.of(Path(model)),
        rank=rank,
        events=events,
        should_stop=should_stop,
    )

    def segment_one(case: Case) -> Result:
        try:
            return segment_case(opened, case, chosen, events, should_stop, uncertainty=uncertainty)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if chosen.type == "cpu":
                raise MemoryError from error
        events.warning(f"{case.name} does not fit into the GPU's memory; the CPU segments it.", case=case.name)
        opened.network.to(torch.device("cpu"))
        try:
            return segment_case(opened, case, torch.device("cpu"), events, should_stop, uncertainty=uncertainty)
        finally:
            opened.network.to(chosen)

    return batch.run(segment_one)


def segment_case(
    model: Model,
    case: Case,
    device: torch.device,
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    uncertainty: bool = False,
) -> Result:
    """One case: read, prepare, run the network, bring the classes back to the scan's own grid.

    Args:
        model: opened on `device`.
        case: its images.
        device: where to compute.
        events: told about what had to be adapted.
        should_stop: asked between windows.
        uncertainty: give the uncertainty of each voxel, too.

    Raises:
        ScanError: the scan cannot be read, or has another number of channels than the model.
        Stopped: the user stopped.
    """
    events = events or silent()
    channels = len(model.preparation.normalisation)
    if len(case.images) != channels:
        raise ScanError(f"{case.name}: {len(case.images)} channels, but the model was trained with {channels}")
    check_memory(case.name, case.images, model.preparation, len(model.classes), model.config.patch[2])
    scan = read_channels(case.images, events)
    source = Geometry.of(scan[0])
    image, grid = prepare_image(scan, model.preparation)

    def check() -> None:
        if should_stop():
            raise Stopped("stopped; run the same command again to go on")

    doubt = Uncertainty(grid, len(model.classes), keep=uncertainty)

    slabs = probability_slabs(
        model.network,
        image,
        model.config.patch,
        device,
        air=[air(entry) for entry in model.preparation.normalisation],
        on_window=check,
    )

    def watched() -> Iterator[Slab]:
        for slab in slabs:
            doubt.add(slab.start, *slab.winners())
            yield slab

    native = source.oriented()
    if native.same_grid(grid):
        numbers = np.empty(tuple(reversed(native.size)), dtype=np.uint8)
        for slab in slabs:
            winners, largest = slab.winners()
            doubt.add(slab.start, winners, largest)
            numbers[slab.start : slab.end] = winners.transpose()
    else:
        numbers = interpolated_classes(((slab.start, slab.probabilities()) for slab in watched()), grid, native)
    values = model.classes.values
    labels = restore_classes(numbers, source, values)
    return Result(tuple(scan), labels, doubt.means(values), doubt.on(source))


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
