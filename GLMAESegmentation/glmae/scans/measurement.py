"""Measuring scans and labels for a fingerprint, each read once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from ..errors import RequestError, ScanError
from ..events import Events, silent
from ..prefetch import in_parallel
from .case import Case, image_state, label_state, state_key
from .classes import ClassTable
from .fingerprint import Fingerprint, Measured, gather, measure_case, samples_kept
from .geometry import Geometry
from .labels import case_images, case_label


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
    kept, quiet = samples_kept(len(cases)), silent()  # preparing the scans says the same warnings
    before, now = dict(known or {}), dict[str, Measured]()

    def measured(case: Case) -> Measured:
        table = None if case.label is None else classes
        key = state_key([case.name, kept, *image_state(case), *([] if table is None else label_state(case, table))])
        if key not in before:
            images = case_images(case, quiet)
            label = None if table is None else case_label(case, Geometry.of(images[0]), table, quiet)
            before[key] = measure_case(case, images, label, classes, kept)
        now[key] = before[key]
        return now[key]

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
