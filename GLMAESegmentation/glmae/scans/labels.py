"""Labels brought to the grid of their scan: 0 background, 1..n the classes, 255 where nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..events import Events, silent
from .annotated_part import guess_region, known_part
from .case import Case, image_state, label_state, state_key
from .classes import IGNORE, LARGEST_VALUE, MOST_CLASSES, ClassTable
from .geometry import Geometry, reordered
from .image import load, read_channels
from .last_read import read_once
from .nifti import non_finite
from .resampling import resample
from .segmentation_file import SegmentationFile, is_segmentation, read_segmentation

# What nibabel's scaled integers, and resampling, leave beside a whole number.
_ROUNDING = 1e-3
# No atlas has more; an image may have fewer values.
_MOST_STRUCTURES = 2000
# So many values are counted without sorting them, or are surely no label map.
_FEW = 1 << 17


def read_label(
    case: Case,
    reference: sitk.Image | Geometry | None,
    classes: ClassTable,
    events: Events | None = None,
    *,
    prediction: bool = False,
) -> sitk.Image:
    """Read the label of a case.

    A label map must lie where the image does; a Slicer segmentation is placed by world coordinates. Where segments
    overlap, the smaller one wins. A class that `case.annotated` leaves out, and what is outside `case.region`, is 255.

    Args:
        reference: the scan or its grid; None: the label's own grid.
        classes: gives the network numbers 1..n; structures are found by name or terminology, values by `case.classes`.
        prediction: the label is a result to be scored: it may be empty, and classes not in `classes` are background.

    Returns:
        UInt8, on exactly the grid of the reference, with the values 0..n and 255.

    Raises:
        ScanError: the file is missing or damaged, lies elsewhere, is empty, or holds values that are no class.
    """
    events = events or silent()
    if case.label is None:
        raise ScanError(f"case {case.name} has no label; label it or leave it out.")
    path = case.label
    wanted = Geometry.of(reference) if isinstance(reference, sitk.Image) else reference
    if is_segmentation(path):
        numbers, grid = _from_segmentation(case, path, wanted, classes, events, prediction)
    else:
        numbers, grid = _from_labelmap(case, path, wanted, classes, events, prediction)
    if not ((numbers > 0) & (numbers != IGNORE)).any() and not prediction and not case.annotated:
        raise ScanError(f"{path} is empty: no voxel of the scan has a class; label it or leave the case out.")
    if case.annotated is not None:
        _forget_unannotated(case, path, numbers, classes, events)
    region = case.region
    if region is not None and region.labeled:
        region = guess_region(grid.image(numbers))  # None: complete
    if region is not None:
        _forget_outside(case, path, numbers, known_part(region, case.name, grid), events)
    return grid.image(numbers)


def case_images(case: Case, events: Events) -> list[sitk.Image]:
    """`read_channels` of a case; not read again if it was a moment ago. Not to be changed."""
    return read_once(state_key(image_state(case)), lambda told: read_channels(case.images, told), events)


def case_label(case: Case, grid: Geometry, classes: ClassTable, events: Events) -> sitk.Image:
    """`read_label` of a case on the grid of its scan; otherwise as `case_images`."""
    key = state_key([case.name, grid.to_json(), *label_state(case, classes)])
    return read_once(key, lambda told: [read_label(case, grid, classes, told)], events)[0]


def classes_in(case: Case) -> ClassTable:
    """The classes that have voxels in the label of a case, by the names that the file, or `case.classes`, gives them.

    A file that has not changed is not read again.

    Raises:
        ScanError: the label is missing, damaged, or holds values that are no class.
    """
    if case.label is None:
        return ClassTable(())
    state = (case.label.stat().st_size, case.label.stat().st_mtime_ns) if case.label.is_file() else ()
    return _classes_in(case.label, case.classes, case.unknown, state)


@lru_cache(1024)
def _classes_in(path: Path, classes: ClassTable | None, unknown: int | None, _state: tuple[int, ...]) -> ClassTable:
    if not is_segmentation(path):
        values = [value for value in _values(path, _load_labelmap(path)) if value != unknown]
        if classes is None:
            return ClassTable.from_labels(values)
        return classes.only(_number(path, value, classes) for value in values)
    segmentation = read_segmentation(path)
    held = [_values(path, _whole(path, segmentation.layer(layer))) for layer in range(segmentation.layers)]
    meanings = [segment.meaning for segment in segmentation.segments if segment.label in held[segment.layer]]
    return ClassTable(tuple({meaning.value: meaning for meaning in meanings}.values()))


def check_inputs(case: Case, images: Sequence[sitk.Image], label: sitk.Image) -> None:
    """Refuse a label among the channels of a scan: one that has a single value wherever the label has.

    Args:
        images: its channels, on one grid.
        label: see `read_label`, on that grid.

    Raises:
        ScanError: a channel is the label itself.
    """
    numbers = sitk.GetArrayViewFromImage(label)
    held = [number for number in np.unique(numbers) if number != IGNORE]
    if len(held) < 2:
        return
    for file, image in zip(case.images, images, strict=True):
        voxels = sitk.GetArrayViewFromImage(image)
        if all(np.ptp(voxels[numbers == number]) == 0 for number in held):
            raise ScanError(f"{file} is the label of case {case.name} again; a label is no input, so take it away.")


def _from_labelmap(
    case: Case, path: Path, reference: Geometry | None, classes: ClassTable, events: Events, prediction: bool
) -> tuple[np.ndarray, Geometry]:
    image = _load_labelmap(path, events)
    grid = reference or Geometry.of(image)
    own = case.classes or classes
    values = _values(path, image)
    numbers = np.zeros(max(values, default=0) + 1, dtype=np.uint8)
    for value in values:
        if value == case.unknown:
            numbers[value] = IGNORE
            continue
        meaning = own.classes[_number(path, value, own) - 1] if not prediction or value in own.values else None
        numbers[value] = _target(path, classes.find(meaning) if meaning else None, value, prediction)
    image = _on_grid(path, image, grid, events)
    return numbers[sitk.GetArrayViewFromImage(image)], grid


def _from_segmentation(
    case: Case, path: Path, reference: Geometry | None, classes: ClassTable, events: Events, prediction: bool
) -> tuple[np.ndarray, Geometry]:
    segmentation = read_segmentation(path)
    grid = reference or segmentation.geometry
    same = segmentation.geometry.same_grid(grid)
    if not same:
        _warn_outside(path, segmentation, grid, events)
    masks: dict[int, np.ndarray] = {}
    names: dict[int, str] = {}
    for layer in range(segmentation.layers):
        image = _whole(path, segmentation.layer(layer), events)
        image = image if same else resample(image, grid, sitk.sitkNearestNeighbor)
        voxels = sitk.GetArrayViewFromImage(image)
        present = set(_values(path, image))
        if strange := present - {segment.label for segment in segmentation.segments if segment.layer == layer}:
            events.warning(
                f"{path} holds the value {min(strange)}, which none of its segments has; its voxels are background.",
                case=case.name,
                check="names",
            )
        for segment in segmentation.segments:
            if segment.layer != layer or segment.label not in present:
                continue
            number = _target(path, classes.find(segment.meaning), segment.meaning.name, prediction)
            if number:
                mask = voxels == segment.label
                masks[number] = masks[number] | mask if number in masks else mask
                names[number] = segment.meaning.name
    result = np.zeros(tuple(reversed(grid.size)), dtype=np.uint8)
    sizes = {number: int(np.count_nonzero(mask)) for number, mask in masks.items()}
    for number in sorted(masks, key=lambda n: -sizes[n]):
        hidden = np.unique(result[masks[number]])
        for other in hidden[hidden > 0]:
            events.warning(
                f"{path}: {names[int(other)]!r} and {names[number]!r} overlap; the voxels of both go to the smaller, "
                f"{names[number]!r}.",
                case=case.name,
                classes=[names[int(other)], names[number]],
                check="overlap",
            )
        result[masks[number]] = number
    return result, grid


def _on_grid(path: Path, image: sitk.Image, grid: Geometry, events: Events) -> sitk.Image:
    here = Geometry.of(image)
    if here.same_grid(grid):
        return image
    if here.along(grid.direction).same_grid(grid):
        return reordered(image, grid)  # the same voxels in another order
    if here.distance(grid) > max(*here.spacing, *grid.spacing):
        lost = "; it has the image's voxels at another place, as if its header had been lost" * (here.size == grid.size)
        raise ScanError(
            f"{path} ({here.describe()}) does not lie where its image does ({grid.describe()}, corners up to "
            f"{here.distance(grid):.0f} mm apart){lost}; draw or export the label on this image."
        )
    events.warning(
        f"{path} ({here.describe()}) was resampled to the grid of its image ({grid.describe()}).",
        file=str(path),
        check="geometry",
    )
    return resample(image, grid, sitk.sitkNearestNeighbor, outside=None)


def _warn_outside(path: Path, segmentation: SegmentationFile, grid: Geometry, events: Events) -> None:
    here = segmentation.geometry
    drawn = np.zeros(tuple(reversed(here.size)), dtype=bool)
    for layer in range(segmentation.layers):
        image = segmentation.layer(layer)
        drawn |= sitk.GetArrayViewFromImage(image) != 0
    indices = np.argwhere(drawn)[:, ::-1]  # I, J, K
    if not len(indices):
        return
    there = grid.index(here.point(indices))
    beyond = ((there < -0.5 - 1e-3) | (there > np.array(grid.size) - 0.5 + 1e-3)).any(axis=1)
    if beyond.any():
        share = f"{beyond.sum()} of {len(indices)} voxels"
        events.warning(
            f"{path} reaches beyond its image: {share} lie outside and are not used.", file=str(path), check="outside"
        )


def _forget_unannotated(case: Case, path: Path, numbers: np.ndarray, classes: ClassTable, events: Events) -> None:
    assert case.annotated is not None
    annotated = {classes.find(name) for name in case.annotated}
    for number in np.unique(numbers):
        if number not in (0, IGNORE) and int(number) not in annotated:
            numbers[numbers == number] = IGNORE
            events.warning(
                f"{path} holds {classes.names[number - 1]!r}, which classes.json does not list as annotated in this "
                "case; its voxels are not used.",
                case=case.name,
                classes=[classes.names[number - 1]],
                check="not_annotated",
            )


def _forget_outside(case: Case, path: Path, numbers: np.ndarray, known: np.ndarray, events: Events) -> None:
    if not known.any():
        raise ScanError(f"the mask in `region` of case {case.name} is empty; mark what was labeled, or remove it.")
    drawn = (numbers > 0) & (numbers != IGNORE)
    lost = int(np.count_nonzero(drawn & ~known))
    if lost:
        events.warning(
            f"{path}: {lost} of {np.count_nonzero(drawn)} labeled voxels lie outside the `region` that classes.json "
            "states for this case and are not used.",
            case=case.name,
            check="outside",
        )
    numbers[~known] = IGNORE


def _load_labelmap(path: Path, events: Events | None = None) -> sitk.Image:
    image = load(path, events)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ScanError(f"{path} has several values a voxel; save it as a label map, or a segmentation as .seg.nrrd.")
    if "float" in image.GetPixelIDTypeAsString() and len(non_finite(path)):
        raise ScanError(f"{path} has voxels that are not numbers; export the label again.")
    return _whole(path, image, events)


def _whole(path: Path, image: sitk.Image, events: Events | None = None) -> sitk.Image:
    """A label map with whole numbers; where they are off by rounding they are corrected, which `events` are told."""
    voxels = sitk.GetArrayViewFromImage(image)  # valid only as long as `image` is
    if voxels.dtype.kind != "f":
        return image
    off = 0.0
    for slab in voxels:  # slice by slice, to need little memory
        if not np.isfinite(slab).all():
            raise ScanError(f"{path} has voxels that are not numbers; export the label again.")
        off = max(off, float(np.abs(slab - np.rint(slab)).max()))
    if off > _ROUNDING:
        raise ScanError(f"{path} has values that are not whole numbers, so it is no label map; export it again.")
    if off > 0 and events is not None:
        events.warning(f"{path}: its values are up to {off:.1g} beside whole numbers and were rounded.", file=str(path))
    if np.abs(voxels).max() >= 2**31:
        raise ScanError(
            f"{path} has values up to {voxels.max():g}, so it is an image and no label map; give the label."
        )
    return sitk.Cast(sitk.Round(image), sitk.sitkInt32)


def _values(path: Path, image: sitk.Image) -> list[int]:
    """The values of a label map but 0, in order; not more than a model can hold."""
    voxels = sitk.GetArrayViewFromImage(image)
    lowest, highest = int(voxels.min()), int(voxels.max())
    found: set[int] = set()
    for slab in voxels:
        if highest - lowest < _FEW:
            found.update((np.flatnonzero(np.bincount(slab.astype(np.int64).ravel() - lowest)) + lowest).tolist())
        else:
            found.update(np.unique(slab).tolist())
        if len(found) > _FEW:
            break
    values = sorted(found - {0})
    if len(values) > (MOST_CLASSES if lowest < 0 else _MOST_STRUCTURES):
        raise ScanError(f"{path} has values up to {highest}, so it is an image and no label map; give the label.")
    if len(values) > MOST_CLASSES:
        raise ScanError(
            f"{path} has {len(values)} values, up to {highest}, and a model holds at most {MOST_CLASSES} structures; "
            "leave some out, or, if this is an image, give its label."
        )
    if values and values[0] < 0:
        raise ScanError(f"{path} holds the value {values[0]}; a label map holds 0 and the values of its classes.")
    if values and values[-1] > LARGEST_VALUE:
        raise ScanError(f"{path} holds the value {values[-1]}; values go up to {LARGEST_VALUE}, so renumber them.")
    return values


def _number(path: Path, value: int, classes: ClassTable) -> int:
    number = classes.by_value(value)
    if number is None:
        known = ", ".join(map(str, classes.values))
        raise ScanError(f"{path} holds the value {value}, but the classes are {known}; correct it or classes.json.")
    return number


def _target(path: Path, number: int | None, name: str | int, prediction: bool) -> int:
    if number is None and not prediction:
        raise ScanError(f"{path} holds {name!r}, which is not among the classes; rename the segment or name the class.")
    return number or 0
