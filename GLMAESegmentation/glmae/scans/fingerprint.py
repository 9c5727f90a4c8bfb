"""What a set of scans is like: sizes, spacings, modality, intensities, and how large the labelled structures are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import RequestError, ScanError
from ..events import Events, silent
from .brightness import SAMPLES, Brightness
from .cases import Case
from .classes import IGNORE, ClassTable
from .common_axes import CommonAxes
from .geometry import Geometry
from .image import read_channels
from .labels import read_label
from .normalisation import sampled
from .parallel import in_parallel
from .structures import Spread, Structure, StructureSpread, measure_structures

# Voxels kept of a scan; fewer where there are many scans, so that memory does not grow with their number.
_ALL_SAMPLES, _FEWEST_SAMPLES = 10_000_000, 1_000


@dataclass(frozen=True)
class Intensity:
    """One channel over all scans.

    Attributes:
        modality: "ct" if the values are Hounsfield units, else "mr": any unit, different in each scan.
        low: 0.5 percentile of the foreground: labelled voxels, or else the body.
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
class ClassSize:
    """How large one class is in the cases that hold it.

    Attributes:
        name: of the class.
        cases: how many cases hold it.
        voxels: median number of voxels, over the cases that were labelled all over where there are any.
        volume: median volume, mm3, over the same.
        diameter: of a ball of that volume, mm.
        spread: what it is like in the cases that were labelled all over; None where there are none, and in models of
            earlier versions.
    """

    name: str
    cases: int
    voxels: int
    volume: float
    diameter: float
    spread: StructureSpread | None = None


@dataclass(frozen=True)
class Fingerprint:
    """All that the preparation of a set of scans is decided from. It names no case.

    Attributes:
        sizes: voxels of each scan along the common axes.
        spacings: mm along these, of each scan.
        channels: intensities of each channel.
        classes: sizes of the classes that some case holds.
        labelled: number of scans with a label.
        axes: the order of axes that is common to the scans.
    """

    sizes: tuple[tuple[int, int, int], ...]
    spacings: tuple[tuple[float, float, float], ...]
    channels: tuple[Intensity, ...]
    classes: tuple[ClassSize, ...] = ()
    labelled: int = 0
    axes: CommonAxes = CommonAxes()

    def to_json(self) -> dict[str, Any]:
        """As plain lists and objects."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Fingerprint:
        """The inverse of `to_json`; what a model of an earlier version does not hold is left out.

        Raises:
            KeyError, TypeError, ValueError: it is damaged.
        """
        return Fingerprint(
            sizes=tuple(_three(size) for size in content["sizes"]),
            spacings=tuple(_three(spacing) for spacing in content["spacings"]),
            channels=tuple(
                Intensity(**{**entry, "quantiles": tuple(map(Spread.from_json, entry.get("quantiles", ())))})
                for entry in content["channels"]
            ),
            classes=tuple(
                ClassSize(**{**entry, "spread": StructureSpread.from_json(spread) if spread else None})
                for entry in content["classes"]
                for spread in [entry.get("spread")]
            ),
            labelled=int(content["labelled"]),
            axes=CommonAxes.from_json(content.get("axes")),
        )


def measure(
    cases: Sequence[Case],
    classes: ClassTable | None = None,
    events: Events | None = None,
    *,
    read_failures: str = "raise",
) -> Fingerprint:
    """Read all scans, several at once, and their labels.

    Args:
        cases: the scans of a job.
        classes: the classes of the job; None: labels are not looked at.
        events: told the progress.
        read_failures: "raise", or "skip" to leave out cases that cannot be read (`ScanStore.prepare` names them).

    Raises:
        ScanError: a scan or label cannot be read.
        RequestError: no scan can be read, or the scans have different numbers of channels.
    """
    events = events or silent()
    quiet = silent()  # preparing the scans says the same warnings
    kept = max(_FEWEST_SAMPLES, min(SAMPLES, _ALL_SAMPLES // max(1, len(cases))))
    grids: list[Geometry] = []
    samples: list[list[_Sample | None]] = []
    volumes: dict[int, list[_Volume]] = {}
    structures: dict[int, list[tuple[int, Structure]]] = {}
    labelled = 0

    def measured(case: Case) -> tuple[Geometry, list[_Sample | None], dict[int, int] | None, dict[int, Structure]]:
        images = read_channels(case.images, quiet)
        label = None if case.label is None or classes is None else read_label(case, images[0], classes, quiet)
        numbers = None if label is None else sitk.GetArrayViewFromImage(label)
        counts = None if numbers is None else _counts(numbers, whole=case.region is None)
        found = {}
        if label is not None and classes is not None and case.region is None and not case.missing:
            # Of a structure that was drawn in part the volume tells nothing.
            found = measure_structures(label, images, range(1, len(classes) + 1))
        sampled: list[_Sample | None] = [_sample(image, numbers, kept) for image in images]
        for place in case.missing:
            sampled.insert(place, None)
        return Geometry.of(images[0]), sampled, counts, found

    coming = in_parallel(measured, cases, voxels=lambda result: len(result[1]) * result[0].voxels)
    for number, (case, future) in enumerate(zip(cases, coming, strict=True)):
        events.progress("measure", number, len(cases))
        try:
            native, sampled, counts, found = future.result()
        except ScanError:
            if read_failures == "skip":
                continue
            raise
        if samples and len(sampled) != len(samples[0]):
            raise RequestError(
                f"case {case.name} has {len(sampled)} channels and the others have {len(samples[0])}; "
                "give the same channels for all."
            )
        samples.append(sampled)
        grids.append(native)
        if counts is not None:
            labelled += 1
            for held, count in counts.items():
                one = _Volume(count, count * native.voxel_volume, case.region is None)
                volumes.setdefault(held, []).append(one)
            for index, structure in found.items():
                structures.setdefault(index, []).append((len(samples) - 1, structure))
    events.progress("measure", len(cases), len(cases))
    if not grids:
        raise RequestError("none of the scans can be read; check that they are 3D images.")
    channels = tuple(
        _intensity([sample for scan in samples if (sample := scan[c]) is not None]) for c in range(len(samples[0]))
    )
    axes = CommonAxes.of(grids)
    natives = [axes.native(grid) for grid in grids]
    sizes = []
    for index, drawn in sorted(volumes.items()):
        assert classes is not None
        told = [one for one in drawn if one.whole] or drawn
        volume = float(np.median([one.mm3 for one in told]))
        voxels = int(np.median([one.voxels for one in told]))
        diameter = (6 * volume / math.pi) ** (1 / 3)
        whole = [
            (scan, found.reordered(CommonAxes().order(grids[scan]).T @ axes.order(grids[scan])))
            for scan, found in structures.get(index, [])
        ]
        spread = _spread(whole, samples, channels) if whole else None
        sizes.append(ClassSize(classes.names[index - 1], len(drawn), voxels, volume, diameter, spread))
    return Fingerprint(
        sizes=tuple(grid.size for grid in natives),
        spacings=tuple(grid.spacing for grid in natives),
        channels=channels,
        classes=tuple(sizes),
        labelled=labelled,
        axes=axes,
    )


@dataclass(frozen=True)
class _Volume:
    """A class in one case; not `whole`: an estimate from the part that was labelled."""

    voxels: int
    mm3: float
    whole: bool


def _counts(numbers: np.ndarray, *, whole: bool) -> dict[int, int]:
    """Voxels of each class that a label [K, J, I] holds.

    Where only a part was labelled, its share of the box around the class is taken for the share that was drawn: three
    slices of nine say a third. Else the class would seem small, and the scans would be prepared too finely for it.
    """
    counts = np.zeros(256, dtype=np.int64)
    for slab in numbers:
        counts += np.bincount(slab.ravel(), minlength=256)
    drawn = {int(number): int(counts[number]) for number in np.flatnonzero(counts[:IGNORE]) if number}
    if not whole:
        from scipy import ndimage  # here, because Slicer's own process reads fingerprints and may lack scipy

        boxes = ndimage.find_objects(numbers)
        for number, count in drawn.items():
            drawn[number] = round(count / float(np.mean(numbers[boxes[number - 1]] != IGNORE)))
    return drawn


@dataclass(frozen=True)
class _Sample:
    """One channel of one scan, and its labelled voxels."""

    brightness: Brightness
    foreground: np.ndarray


def _sample(image: sitk.Image, numbers: np.ndarray | None, kept: int) -> _Sample:
    voxels = sitk.GetArrayViewFromImage(image)
    foreground = np.empty(0, dtype=np.float32)
    if numbers is not None:
        # Slice by slice: a boolean index over a whole CT would copy more than the scan.
        slabs = [v[(n > 0) & (n != IGNORE)] for v, n in zip(voxels, numbers, strict=True)]
        foreground = sampled(np.concatenate(slabs), kept).astype(np.float32)
    return _Sample(Brightness.of(image, kept), foreground)


def _intensity(samples: Sequence[_Sample]) -> Intensity:
    modality = "ct" if 2 * sum(sample.brightness.hounsfield for sample in samples) > len(samples) else "mr"
    values = np.concatenate([sample.foreground for sample in samples])
    if len(values) < 100:
        values = np.concatenate([sample.brightness.body for sample in samples])
    low, high = (float(edge) for edge in np.percentile(values, (0.5, 99.5)))
    inside = np.clip(values, low, high).astype(np.float64)
    quantiles = [sample.brightness.quantiles(modality) for sample in samples]
    spreads = tuple(Spread.of(of_one) for of_one in zip(*quantiles, strict=True))
    return Intensity(modality, low, high, float(inside.mean()), float(inside.std()), spreads)


def _spread(
    found: Sequence[tuple[int, Structure]], samples: Sequence[Sequence[_Sample | None]], channels: Sequence[Intensity]
) -> StructureSpread:
    scans = [[sample.brightness for sample in samples[scan] if sample is not None] for scan, _ in found]
    return StructureSpread.over([one for _, one in found], scans, [channel.modality for channel in channels])


def _three(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third
