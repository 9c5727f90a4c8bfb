"""What a set of scans is like: sizes, spacings, modality, intensities, and how large the labelled structures are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import RequestError, ScanError
from ..events import Events, silent
from .cases import Case
from .classes import ClassTable
from .geometry import Geometry
from .image import read_channels
from .labels import IGNORE, read_label
from .parallel import in_parallel

# Hounsfield units: air is -1000, and scanners pad with that or less.
_AIR = -500.0
_BODY = -500.0
# Voxels kept of a scan; fewer where there are many scans, so that memory does not grow with their number.
_SAMPLES, _ALL_SAMPLES, _FEWEST_SAMPLES = 50_000, 10_000_000, 1_000


@dataclass(frozen=True)
class Intensity:
    """One channel over all scans.

    Attributes:
        modality: "ct" if the values are Hounsfield units, else "mr": any unit, different in each scan.
        low: 0.5 percentile of the foreground: labelled voxels, or else the body.
        high: 99.5 percentile of the foreground.
        mean: mean of the foreground within these.
        std: standard deviation of the foreground within these.
    """

    modality: str
    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class ClassSize:
    """How large one class is in the cases that hold it.

    Attributes:
        name: of the class.
        cases: how many cases hold it.
        voxels: median number of voxels.
        volume: median volume, mm3.
        diameter: of a ball of that volume, mm.
    """

    name: str
    cases: int
    voxels: int
    volume: float
    diameter: float


@dataclass(frozen=True)
class Fingerprint:
    """All that the preparation of a set of scans is decided from. It names no case.

    Attributes:
        sizes: voxels of each scan along R, A, S.
        spacings: mm along R, A, S, of each scan.
        channels: intensities of each channel.
        classes: sizes of the classes that some case holds.
        labelled: number of scans with a label.
    """

    sizes: tuple[tuple[int, int, int], ...]
    spacings: tuple[tuple[float, float, float], ...]
    channels: tuple[Intensity, ...]
    classes: tuple[ClassSize, ...] = ()
    labelled: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain lists and objects."""
        return asdict(self)


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
    kept = max(_FEWEST_SAMPLES, min(_SAMPLES, _ALL_SAMPLES // max(1, len(cases))))
    grids: list[Geometry] = []
    samples: list[list[_Sample]] = []
    volumes: dict[int, list[tuple[int, float]]] = {}
    labelled = 0

    def measured(case: Case) -> tuple[Geometry, list[_Sample], np.ndarray | None]:
        images = read_channels(case.images, quiet)
        label = None if case.label is None or classes is None else read_label(case, images[0], classes, quiet)
        numbers = None if label is None else sitk.GetArrayViewFromImage(label)
        counts = None
        if numbers is not None:
            counts = np.zeros(256, dtype=np.int64)
            for slab in numbers:
                counts += np.bincount(slab.ravel(), minlength=256)
        return Geometry.of(images[0]), [_sample(image, numbers, kept) for image in images], counts

    coming = in_parallel(measured, cases, voxels=lambda result: len(result[1]) * result[0].voxels)
    for number, (case, future) in enumerate(zip(cases, coming, strict=True)):
        events.progress("measure", number, len(cases))
        try:
            native, sampled, counts = future.result()
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
        grids.append(native.oriented())
        if counts is not None:
            labelled += 1
            for held in np.flatnonzero(counts[1:IGNORE]) + 1:
                volumes.setdefault(int(held), []).append((int(counts[held]), counts[held] * native.voxel_volume))
    events.progress("measure", len(cases), len(cases))
    if not grids:
        raise RequestError("none of the scans can be read; check that they are 3D images.")
    sizes = []
    for index, found in sorted(volumes.items()):
        assert classes is not None
        volume = float(np.median([mm3 for _, mm3 in found]))
        voxels = int(np.median([count for count, _ in found]))
        sizes.append(ClassSize(classes.names[index - 1], len(found), voxels, volume, (6 * volume / math.pi) ** (1 / 3)))
    return Fingerprint(
        sizes=tuple(grid.size for grid in grids),
        spacings=tuple(grid.spacing for grid in grids),
        channels=tuple(_intensity([scan[c] for scan in samples]) for c in range(len(samples[0]))),
        classes=tuple(sizes),
        labelled=labelled,
    )


@dataclass(frozen=True)
class _Sample:
    """Voxels of one channel of one scan, and whether they look like Hounsfield units."""

    hounsfield: bool
    foreground: np.ndarray
    body: np.ndarray


def _sample(image: sitk.Image, numbers: np.ndarray | None, kept: int) -> _Sample:
    voxels = sitk.GetArrayViewFromImage(image)
    lowest, highest = float(voxels.min()), float(voxels.max())
    some = _thinned(voxels.reshape(-1), kept).astype(np.float32)
    # MR, PET and ultrasound start at or near 0; integers or a peak at air tell CT from, say, phase images.
    whole = bool(np.array_equal(some, np.rint(some)))
    air = float(np.mean((some > -1100) & (some < -900)))
    hounsfield = lowest <= _AIR and lowest >= -4096 and highest < 40_000 and (whole or air > 0.01)
    foreground = np.empty(0, dtype=np.float32)
    if numbers is not None:
        # Slice by slice: a boolean index over a whole CT would copy more than the scan.
        slabs = [v[(n > 0) & (n != IGNORE)] for v, n in zip(voxels, numbers, strict=True)]
        foreground = _thinned(np.concatenate(slabs), kept).astype(np.float32)
    return _Sample(hounsfield, foreground, some[some > _BODY] if hounsfield else some)


def _intensity(samples: Sequence[_Sample]) -> Intensity:
    modality = "ct" if 2 * sum(sample.hounsfield for sample in samples) > len(samples) else "mr"
    values = np.concatenate([sample.foreground for sample in samples])
    if len(values) < 100:
        values = np.concatenate([sample.body for sample in samples])
    low, high = (float(edge) for edge in np.percentile(values, (0.5, 99.5)))
    inside = np.clip(values, low, high).astype(np.float64)
    return Intensity(modality, low, high, float(inside.mean()), float(inside.std()))


def _thinned(values: np.ndarray, kept: int) -> np.ndarray:
    """At most about `kept` values, evenly taken: the same ones each time."""
    return values[:: max(1, len(values) // kept)]
