"""What a set of scans is like: sizes, spacings, modality, intensities, and how large the labeled structures are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..json_record import JsonRecord
from .case import Case
from .classes import IGNORE, ClassTable
from .common_axes import CommonAxes
from .geometry import Geometry
from .normalization import SAMPLES, Brightness, sampled
from .structures import Spread, Structure, StructureSpread, measure_structures, voxel_counts

# Voxels kept of a scan; fewer where there are many scans, so that memory does not grow with their number.
_ALL_SAMPLES, _FEWEST_SAMPLES = 10_000_000, 1_000


@dataclass(frozen=True)
class Intensity(JsonRecord):
    """One channel over all scans.

    Attributes:
        modality: "ct" if the values are Hounsfield units, else "mr": any unit, different in each scan.
        low: 0.5 percentile of the foreground: labeled voxels, or else the body.
        high: 99.5 percentile of the foreground.
        mean: mean of the foreground within these.
        std: standard deviation of the foreground within these.
        quantiles: of each scan's voxels, see `Brightness.quantiles`; none in models of earlier versions.
    """

    modality: str
    low: float
    high: float
    mean: float
    std: float
    quantiles: tuple[Spread, ...] = ()


@dataclass(frozen=True)
class ClassSize(JsonRecord):
    """How large one class is in the cases that hold it.

    Attributes:
        cases: how many cases hold it.
        voxels: median number of voxels, over the cases that were labeled all over where there are any.
        volume: median volume, mm3, over the same.
        diameter: of a ball of that volume, mm.
        spread: what it is like in the cases that were labeled all over; None where there are none, and in models of
            earlier versions.
    """

    name: str
    cases: int
    voxels: int
    volume: float
    diameter: float
    spread: StructureSpread | None = None


@dataclass(frozen=True)
class Fingerprint(JsonRecord):
    """All that the preparation of a set of scans is decided from; empty where it is not known. It names no case.

    Attributes:
        sizes: voxels of each scan along the common axes.
        spacings: mm along these, of each scan.
        channels: intensities of each channel.
        classes: sizes of the classes that some case holds.
        labeled: number of scans with a label.
        axes: the order of axes that is common to the scans.
    """

    sizes: tuple[tuple[int, int, int], ...] = ()
    spacings: tuple[tuple[float, float, float], ...] = ()
    channels: tuple[Intensity, ...] = ()
    classes: tuple[ClassSize, ...] = ()
    labeled: int = 0
    axes: CommonAxes = CommonAxes()


@dataclass(frozen=True)
class Sample:
    """One channel of one scan, and its labeled voxels."""

    brightness: Brightness
    foreground: np.ndarray


@dataclass(frozen=True)
class Measured:
    """What one case adds to a fingerprint.

    Attributes:
        samples: of each channel; None for one that is missing.
        counts: voxels of each class that the label holds, see `_counts`; None without a label.
        whole: whether all of the scan was labeled.
        structures: the classes, by their numbers, where they were drawn in whole.
    """

    name: str
    grid: Geometry
    samples: tuple[Sample | None, ...]
    counts: dict[int, int] | None
    whole: bool
    structures: dict[int, Structure]


def samples_kept(cases: int) -> int:
    """How many voxels of each channel are drawn in a set of so many cases."""
    return max(_FEWEST_SAMPLES, min(SAMPLES, _ALL_SAMPLES // max(1, cases)))


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


def gather(each: Sequence[Measured], classes: ClassTable | None = None) -> Fingerprint:
    """The fingerprint of some scans.

    Args:
        each: at least one, all with the same number of channels.
    """
    channels = tuple(
        _intensity([sample for one in each if (sample := one.samples[channel]) is not None])
        for channel in range(len(each[0].samples))
    )
    axes = CommonAxes.of([one.grid for one in each])
    natives = [axes.native(one.grid) for one in each]
    sizes = []
    for index in sorted({index for one in each for index in one.counts or ()}):
        assert classes is not None
        drawn = [one for one in each if one.counts and index in one.counts]
        told = [one for one in drawn if one.whole] or drawn
        volume = float(np.median([(one.counts or {})[index] * one.grid.voxel_volume for one in told]))
        voxels = int(np.median([(one.counts or {})[index] for one in told]))
        diameter = (6 * volume / math.pi) ** (1 / 3)
        whole = [
            (one, one.structures[index].reordered(CommonAxes().order(one.grid).T @ axes.order(one.grid)))
            for one in each
            if index in one.structures
        ]
        spread = _spread(whole, channels) if whole else None
        sizes.append(ClassSize(classes.names[index - 1], len(drawn), voxels, volume, diameter, spread))
    return Fingerprint(
        sizes=tuple(grid.size for grid in natives),
        spacings=tuple(grid.spacing for grid in natives),
        channels=channels,
        classes=tuple(sizes),
        labeled=sum(one.counts is not None for one in each),
        axes=axes,
    )


def _intensity(samples: Sequence[Sample]) -> Intensity:
    modality = "ct" if 2 * sum(sample.brightness.hounsfield for sample in samples) > len(samples) else "mr"
    values = np.concatenate([sample.foreground for sample in samples])
    if len(values) < 100:
        values = np.concatenate([sample.brightness.body for sample in samples])
    low, high = (float(edge) for edge in np.percentile(values, (0.5, 99.5)))
    inside = np.clip(values, low, high).astype(np.float64)
    quantiles = [sample.brightness.quantiles(modality) for sample in samples]
    spreads = tuple(Spread.of(of_one) for of_one in zip(*quantiles, strict=True))
    return Intensity(modality, low, high, float(inside.mean()), float(inside.std()), spreads)


def _spread(found: Sequence[tuple[Measured, Structure]], channels: Sequence[Intensity]) -> StructureSpread:
    scans = [[sample.brightness for sample in one.samples if sample is not None] for one, _ in found]
    return StructureSpread.over([structure for _, structure in found], scans, [entry.modality for entry in channels])


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
