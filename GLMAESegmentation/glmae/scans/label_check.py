"""What is odd about the labels of a job, said before it begins: which case, which class, and what will happen.

Needs no torch: the command line says the findings at the start of a run, the panel shows them in a list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import ScanError
from ..events import Events, recorded, silent
from ..prefetch import in_parallel
from .annotated_part import guess_region, without_usual_ends
from .case import Case, content_hash
from .channels import compare_channels
from .classes import IGNORE, ClassTable, plain_name
from .finding import SEVERITIES, Finding
from .fingerprint import Measured, measure_case, samples_kept
from .geometry import Geometry
from .label_comparison import CheckedLabel, compare_labels
from .labels import case_images, case_label, check_inputs
from .region import Region
from .segmentation_file import is_segmentation, read_segments
from .structures import connected_parts

_FEW_VOXELS = 30
# Islands: bits this small and this far off, beside one large part, and not many of them.
_ISLAND_SHARE = 0.02
_MAIN_SHARE = 0.8
_ISLAND_GAP = 5
_MOST_ISLANDS = 5
# Preparing the scans says these as well, a moment later.
_SAID_BY_READING = ("reading", "geometry", "outside", "overlap", "not_annotated")


@dataclass(frozen=True)
class Inspection:
    """What one reading of the labeled scans of a job gives.

    Attributes:
        findings: what is odd; errors first, then warnings, guesses, notes.
        measured: what each case that can be read adds to the fingerprint, in the order of the cases.
        digests: `content_hash` of the images of each of these, by its name.
    """

    classes: ClassTable
    findings: list[Finding]
    measured: list[Measured]
    digests: dict[str, str]

    @property
    def errors(self) -> list[Finding]:
        """The findings with which a job does not begin."""
        return [finding for finding in self.findings if finding.severity == "error"]


def warn_of_labels(
    cases: Sequence[Case], classes: ClassTable, events: Events, check: Callable[[], None] = lambda: None
) -> Inspection:
    """`inspect_labels` at the start of a job: each finding is an event, unless preparing the scans says it anyway.

    Raises:
        ScanError: a case cannot be used; where there are several, the others were named as events.
    """
    found = inspect_labels(cases, classes, events, check)
    errors = found.errors
    for finding in found.findings:
        if finding in errors[1:] or (not errors and finding.check not in _SAID_BY_READING):
            finding.report(events)
    if errors:
        raise ScanError(errors[0].message)
    return found


def inspect_labels(
    cases: Sequence[Case],
    classes: ClassTable,
    events: Events | None = None,
    check: Callable[[], None] = lambda: None,
) -> Inspection:
    """Read each labeled scan once, several at a time: what is odd about it by itself and beside the others.

    Args:
        cases: of one job; those without a label are passed over.
        events: told the progress (stage `check`).
    """
    events = events or silent()
    labeled = [case for case in cases if case.label is not None]
    findings = list(compare_channels(labeled))
    checked: list[CheckedLabel] = []
    measured: list[Measured] = []
    kept = samples_kept(len(labeled))

    def look(case: Case) -> tuple[list[Finding], CheckedLabel, Measured]:
        return _check_case(case, classes, kept)

    with closing(in_parallel(look, labeled, voxels=lambda one: len(one[2].samples) * one[2].grid.voxels)) as coming:
        for number, (case, future) in enumerate(zip(labeled, coming, strict=True)):
            events.progress("check", number, len(labeled), case=case.name)
            check()
            try:
                found, result, one = future.result()
            except ScanError as error:
                findings.append(Finding("reading", "error", str(error), (case.name,)))
                continue
            findings += found
            checked.append(result)
            measured.append(one)
    events.progress("check", len(labeled), len(labeled))
    unsaid = [entry for entry in checked if entry.case.region is None]
    guesses = without_usual_ends([entry.guess for entry in unsaid], [entry.grid for entry in unsaid])
    cut = {entry.case.name: guess for entry, guess in zip(unsaid, guesses, strict=True)}
    checked = [replace(entry, guess=cut.get(entry.case.name)) for entry in checked]
    findings += [_guess(entry.case.name, entry.guess) for entry in checked if entry.guess is not None]
    if len(checked) == len(labeled):  # else a class could seem to be in no case
        findings += compare_labels(checked, classes)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Inspection(classes, findings, measured, {entry.case.name: entry.digest for entry in checked})


def _check_case(case: Case, classes: ClassTable, kept: int) -> tuple[list[Finding], CheckedLabel, Measured]:
    assert case.label is not None
    heard: list[dict[str, Any]] = []
    images = case_images(case, recorded(heard))
    grid, digest = Geometry.of(images[0]), content_hash(images)
    label = case_label(case, grid, classes, recorded(heard))
    check_inputs(case, images, label)
    measured = measure_case(case, images, label, classes, kept)
    del images
    findings = [Finding.heard(event, case.name) for event in heard]
    shapes = class_shapes(label)
    for number, shape in shapes.items():
        findings += _check_class(case.name, classes.names[number - 1], shape, grid)
    names: tuple[str, ...] = ()
    if is_segmentation(case.label):
        names = tuple(segment.meaning.name for segment in read_segments(case.label))
        findings += _empty_segments(case, names, classes, shapes)
    region = guess_region(label) if case.region is None or case.region.labeled else None
    if case.region is not None and case.region.labeled:
        findings.append(_confirmed(case.name, region))
        region = None
    volumes = {number: shape.voxels * grid.voxel_volume for number, shape in shapes.items()}
    return findings, CheckedLabel(case, grid, digest, names, volumes, region), measured


def _check_class(case: str, name: str, shape: ClassShape, grid: Geometry) -> Iterator[Finding]:
    if shape.voxels < _FEW_VOXELS:
        message = (
            f"case {case}: {name!r} has only {shape.voxels} voxels ({shape.voxels * grid.voxel_volume:.3g} mm3); it is "
            "trained on as it is, but so few are seldom learned well, and a score on them says little."
        )
        yield Finding("few_voxels", "warning", message, (case,), (name,))
    for index, voxels in shape.islands:
        message = (
            f"case {case}: {name!r} has {voxels} voxels far from all the rest, near voxel {list(index)}; they are "
            "trained on like the others, so erase them if they are a slip."
        )
        yield Finding("island", "warning", message, (case,), (name,))


def _empty_segments(
    case: Case, names: Sequence[str], classes: ClassTable, shapes: Mapping[int, ClassShape]
) -> list[Finding]:
    """Segments that were made but not drawn; where `annotated` names the class, it is known to be absent."""
    said = {plain_name(name) for name in case.annotated or ()}
    return [
        Finding(
            "empty",
            "warning",
            f"case {case.name}: the segment {name!r} is empty; it counts as not drawn in this case, so nothing is "
            "learned about it here.",
            (case.name,),
            (name,),
        )
        for name in names
        if classes.find(name) not in shapes and plain_name(name) not in said
    ]


def _confirmed(case: str, region: Region | None) -> Finding:
    if region is None:
        what = "the labels look complete, so all of the scan counts"
    elif region.axis is not None:
        what = f"only the {len(region.slices)} slices along {'IJK'[region.axis]} that hold labels are trained on"
    else:
        what = "only the box in which labels lie is trained on"
    return Finding("region", "note", f"case {case}: {what}, as its region says.", (case,), region=region)


def _guess(case: str, region: Region) -> Finding:
    entry = json.dumps({"region": {case: region.to_json()}}, ensure_ascii=False)
    if region.axis is not None:
        what = f"labels lie in {len(region.slices)} single slices along {'IJK'[region.axis]} only"
    else:
        what = "labels end abruptly inside the scan, as if a box of it had been labeled"
    message = f"case {case}: {what}; the rest counts as background, unless classes.json says what was labeled: {entry}."
    return Finding("region", "guess", message, (case,), region=region)


@dataclass(frozen=True)
class ClassShape:
    """One class in one scan: its number of voxels, and of each stray island an index (I, J, K) and the number."""

    voxels: int
    islands: tuple[tuple[tuple[int, int, int], int], ...]


def class_shapes(label: sitk.Image) -> dict[int, ClassShape]:
    """For each class number that a label holds.

    A class of many parts, such as lesions, has no stray islands: only where one part holds at least 80 % of a class
    are bits of at most 2 % of it, 5 voxels or more away from that part, taken for slips, and no more than five.

    Args:
        label: UInt8, 0 background, 1..n classes, 255 unknown.
    """
    numbers = sitk.GetArrayViewFromImage(label)  # [K, J, I]
    boxes = enumerate(ndimage.find_objects(numbers, max_label=IGNORE - 1), start=1)
    return {number: _shape(numbers[box] == number, box) for number, box in boxes if box is not None}


def _shape(mask: np.ndarray, box: tuple[slice, ...]) -> ClassShape:
    """Of the voxels of a class in its box."""
    parts, sizes = connected_parts(mask)
    total, main = int(sizes.sum()), int(sizes.argmax())
    if len(sizes) == 1 or sizes[main] < _MAIN_SHARE * total:
        return ClassShape(total, ())
    places = ndimage.find_objects(parts)
    found = []
    for size, place in zip(sizes, places, strict=True):
        if size <= _ISLAND_SHARE * total and _gap(place, places[main]) >= _ISLAND_GAP:
            k, j, i = ((own.start + own.stop) // 2 + whole.start for own, whole in zip(place, box, strict=True))
            found.append(((i, j, k), int(size)))
    return ClassShape(total, tuple(found) if len(found) <= _MOST_ISLANDS else ())


def _gap(one: tuple[slice, ...], other: tuple[slice, ...]) -> int:
    """Voxels between two boxes, along the axis on which they are farthest."""
    return max(max(a.start - b.stop, b.start - a.stop) for a, b in zip(one, other, strict=True))
