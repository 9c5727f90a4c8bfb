"""Measuring scans and labels for a fingerprint, each read once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import SimpleITK as sitk

from ..errors import RequestError, ScanError
from ..events import Events, silent
from ..prefetch import in_parallel
from .brightness import SAMPLES, Brightness
from .case import Case, image_state, label_state, state_key
from .classes import IGNORE, ClassTable
from .fingerprint import Fingerprint, Measured, Sample, gather
from .geometry import Geometry
from .last_read import case_images, case_label
from .normalisation import sampled
from .parts import voxel_counts
from .structures import measure_structures

# Voxels kept of a scan; fewer where there are many scans, so that memory does not grow with their number.
_ALL_SAMPLES, _FEWEST_SAMPLES = 10_000_000, 1_000


def measure(
    cases: Sequence[Case],
    classes: ClassTable | None = None,
    events: Events | None = None,
    *,
    read_failures: str = "raise",
) -> Fingerprint:
    """Read all scans, several at once, and their labels.

    Args:
        classes: the classes of the job; None: labels are not looked at.
        read_failures: "raise", or "skip" to leave out cases that cannot be read (`ScanStore.prepare` names them).

    Raises:
        ScanError: a scan or label cannot be read.
        RequestError: no scan can be read, or the scans have different numbers of channels.
    """
    return gather(measure_each(cases, classes, events, read_failures=read_failures), classes)


def measure_each(
    cases: Sequence[Case],
    classes: ClassTable | None = None,
    events: Events | None = None,
    *,
    read_failures: str = "raise",
    known: dict[str, Measured] | None = None,
) -> list[Measured]:
    """What `gather` makes a fingerprint of, in the order of the cases; arguments and errors as of `measure`.

    Args:
        known: what the last call found: of a scan that is unchanged, with its label, it is taken. Brought up to date.
    """
    events = events or silent()
    kept = samples_kept(len(cases))
    before, now = dict(known or {}), dict[str, Measured]()

    def measured(case: Case) -> Measured:
        key = _key(case, classes, kept)
        now[key] = found = before.get(key) or _measured(case, classes, kept)
        return found

    each: list[Measured] = []
    with closing(in_parallel(measured, cases, voxels=lambda one: len(one.samples) * one.grid.voxels)) as coming:
        for number, (case, future) in enumerate(zip(cases, coming, strict=True)):
            events.progress("measure", number, len(cases))
            try:
                one = future.result()
            except ScanError:
                if read_failures == "skip":
                    continue
                raise
            if each and len(one.samples) != len(each[0].samples):
                raise RequestError(
                    f"case {case.name} has {len(one.samples)} channels and the others have {len(each[0].samples)}; "
                    "give the same channels for all."
                )
            each.append(one)
    events.progress("measure", len(cases), len(cases))
    if not each:
        raise RequestError("none of the scans can be read; check that they are 3D images.")
    if known is not None:
        known.clear()
        known.update(now)
    return each


def samples_kept(cases: int) -> int:
    """How many voxels of each channel are drawn in a set of so many cases."""
    return max(_FEWEST_SAMPLES, min(SAMPLES, _ALL_SAMPLES // max(1, cases)))


def _measured(case: Case, classes: ClassTable | None, kept: int) -> Measured:
    quiet = silent()  # preparing the scans says the same warnings
    images, label = case_images(case, quiet), None
    if case.label is not None and classes is not None:
        label = case_label(case, Geometry.of(images[0]), classes, quiet)
    return measure_case(case, images, label, classes, kept)


def measure_case(
    case: Case, images: Sequence[sitk.Image], label: sitk.Image | None, classes: ClassTable | None, kept: int
) -> Measured:
    """What a case that was read adds to a fingerprint.

    Args:
        label: its label in numbers of `classes`; None: it is not looked at.
        kept: `samples_kept` of the set.
    """
    numbers = None if label is None else sitk.GetArrayViewFromImage(label)
    whole = case.region is None
    counts = None if numbers is None else _counts(numbers, whole=whole)
    found = {}
    if label is not None and classes is not None and whole and not case.missing:
        # Of a structure that was drawn in part the volume tells nothing.
        found = measure_structures(label, images, range(1, len(classes) + 1))
    samples: list[Sample | None] = [_sample(image, numbers, kept) for image in images]
    for place in case.missing:
        samples.insert(place, None)
    return Measured(case.name, Geometry.of(images[0]), tuple(samples), counts, whole, found)


def _key(case: Case, classes: ClassTable | None, kept: int) -> str:
    label = [] if case.label is None or classes is None else label_state(case, classes)
    return state_key([case.name, kept, *image_state(case), *label])


def _sample(image: sitk.Image, numbers: np.ndarray | None, kept: int) -> Sample:
    voxels = sitk.GetArrayViewFromImage(image)
    foreground = np.empty(0, dtype=np.float32)
    if numbers is not None:
        # Slice by slice: a boolean index over a whole CT would copy more than the scan.
        slabs = [v[(n > 0) & (n != IGNORE)] for v, n in zip(voxels, numbers, strict=True)]
        foreground = sampled(np.concatenate(slabs), kept).astype(np.float32)
    return Sample(Brightness.of(image, kept), foreground)


def _counts(numbers: np.ndarray, *, whole: bool) -> dict[int, int]:
    """Voxels of each class that a label [K, J, I] holds.

    Where only a part was labeled, its share of the box around the class is taken for the share that was drawn: three
    slices of nine say a third. Else the class would seem small, and the scans would be prepared too finely for it.
    """
    counts = voxel_counts(numbers)
    drawn = {int(number): int(counts[number]) for number in np.flatnonzero(counts[:IGNORE]) if number}
    if not whole:
        from scipy import ndimage  # here, because Slicer's own process reads fingerprints and may lack scipy

        boxes = ndimage.find_objects(numbers)
        for number, count in drawn.items():
            drawn[number] = round(count / float(np.mean(numbers[boxes[number - 1]] != IGNORE)))
    return drawn
