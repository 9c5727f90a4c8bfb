"""Doubts about a result, each with a sentence: where a person should look before using it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import SimpleITK as sitk

from ..json_record import JsonRecord, in_json
from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint, Intensity
from ..scans.geometry import Geometry
from ..scans.normalization import Brightness
from ..scans.structures import Structure, StructureSpread

KINDS = ("empty", "cut off", "volume", "position", "fragments", "brightness", "intensities", "spacing", "uncertain")
# How many deviations of the training cases a result may be off.
FAR = 3.0
# Usual deviations between patients, because a few training cases show little of them: a factor of 1.4 in volume, 5 % of
# the scan's box, 20 HU, a quarter of the scan's own deviation.
LOG_VOLUME, PLACE, HOUNSFIELD, OWN_SCALE = math.log(1.4), 0.05, 20.0, 0.25
# Share of a structure that may lie outside its largest pieces (as many as a training case had).
LOOSE = 0.15
# Share of a structure of one piece that post-processing may have left out.
LEFT_OUT = 0.25
# Voxels of another size than any training scan's by these factors.
COARSER, FINER = 1.5, 3.0
# Mean of 1 - (largest probability) over a structure.
UNCERTAIN = 0.3
_SIDES = {"L": "left", "R": "right", "P": "back", "A": "front", "I": "lower", "S": "upper"}


@dataclass(frozen=True)
class Flag(JsonRecord):
    """One doubt.

    Attributes:
        kind: one of `KINDS`.
        name: of the class; None: the whole scan.
    """

    kind: str
    message: str
    name: str | None = field(default=None, metadata=in_json("class"))


def find_flags(
    images: Sequence[sitk.Image],
    structures: Mapping[int, Structure],
    classes: ClassTable,
    fingerprint: Fingerprint,
    uncertainty: Mapping[int, float],
    left_out: Mapping[int, float],
) -> list[Flag]:
    """All doubts about one segmented scan, those about the scan first.

    Args:
        structures: what was found, by the values of `classes`.
        fingerprint: of the model's training cases; empty: not known, then nothing is compared with them.
        uncertainty: mean of 1 - (largest probability) over each structure, by value.
        left_out: share of each structure that post-processing left out (see `single_piece`), by value.
    """
    brightness = [Brightness.of(image) for image in images]
    channels, known = fingerprint.channels, {size.name: size for size in fingerprint.classes}
    flags: list[Flag] = []
    if fingerprint.sizes:
        flags += _spacing(Geometry.of(images[0]), fingerprint)
        flags += _intensities(brightness, channels)
    for entry in classes:
        found, size = structures.get(entry.value), known.get(entry.name)
        if found is None:
            often = f"; {size.cases} of {fingerprint.labeled} labels hold it" if size else ""
            flags.append(Flag("empty", f"{entry.name} was not found in this scan{often}", entry.name))
            continue
        flags += _structure(entry.name, found, None if size is None else size.spread, brightness, channels)
        if (share := left_out.get(entry.value, 0.0)) > LEFT_OUT:
            message = (
                f"{entry.name} was found in several places; {share:.0%} of it lay outside the largest piece and was "
                "left out, because in the training cases it had one"
            )
            flags.append(Flag("fragments", message, entry.name))
        doubt = uncertainty.get(entry.value, 0.0)
        if doubt > UNCERTAIN:
            message = (
                f"the model is unsure about {entry.name}: its choice has a probability of {1 - doubt:.0%} on average"
            )
            flags.append(Flag("uncertain", message, entry.name))
    return flags


def _structure(
    name: str,
    found: Structure,
    spread: StructureSpread | None,
    brightness: Sequence[Brightness],
    channels: Sequence[Intensity],
) -> list[Flag]:
    flags = []
    usual = frozenset() if spread is None else frozenset(spread.borders)
    if sides := found.borders - usual:
        where = " and the ".join(f"{_SIDES[side]} border" for side in sorted(sides))
        flags.append(Flag("cut off", f"{name} reaches the {where} of the scan and may be cut off", name))
    pieces = 1 if spread is None else spread.pieces
    largest = 1.0 if spread is None else spread.largest
    if found.pieces > pieces and found.largest < largest - LOOSE:
        message = f"{name} is in {found.pieces} pieces, the largest with {found.largest:.0%} of it"
        if spread is not None:
            message += f"; in the training cases it had {f'{pieces} at most' if pieces > 1 else 'one'}"
        flags.append(Flag("fragments", message, name))
    if spread is None:
        return flags
    if spread.log_volume.distance(math.log(found.volume), LOG_VOLUME) > FAR:
        usual_ml, ml = math.exp(spread.log_volume.mean) / 1000, found.volume / 1000
        size = "larger" if ml > usual_ml else "smaller"
        message = f"{name} has {ml:.3g} ml and is {size} than in the training cases, where it has about {usual_ml:.3g}"
        flags.append(Flag("volume", message, name))
    flags += _position(name, found, spread)
    for number, (channel, typical) in enumerate(zip(channels, spread.brightness, strict=False)):
        value = brightness[number].scaled(found.means[number], channel.modality)
        if typical.distance(value, HOUNSFIELD if channel.modality == "ct" else OWN_SCALE) > FAR:
            unit = " HU" if channel.modality == "ct" else " deviations from the scan's mean"
            message = f"{name} is at {value:.3g}{unit} on average and at {typical.mean:.3g} in the training cases"
            flags.append(Flag("brightness", message + _channel(number, channels), name))
    return flags


def _position(name: str, found: Structure, spread: StructureSpread) -> list[Flag]:
    for low, high, typical, place in zip("LPI", "RAS", spread.place, found.place, strict=True):
        if typical.distance(place, PLACE) > FAR:
            where = _SIDES[high if place > typical.mean else low]
            shift = abs(place - typical.mean)
            message = f"{name} lies further to the {where} side than in the training cases, by {shift:.0%} of the scan"
            return [Flag("position", message, name)]
    return []


def _spacing(grid: Geometry, fingerprint: Fingerprint) -> list[Flag]:
    here = fingerprint.axes.native(grid).spacing
    coarsest = [max(spacing[axis] for spacing in fingerprint.spacings) for axis in range(3)]
    finest = [min(spacing[axis] for spacing in fingerprint.spacings) for axis in range(3)]
    if any(own > COARSER * known for own, known in zip(here, coarsest, strict=True)):
        unlike, limit, end = "coarser", coarsest, "most"
    elif any(FINER * own < known for own, known in zip(here, finest, strict=True)):
        unlike, limit, end = "finer", finest, "least"
    else:
        return []
    own_mm, limit_mm = (" x ".join(f"{side:.3g}" for side in spacing) for spacing in (here, limit))
    return [Flag("spacing", f"voxels of {own_mm} mm are {unlike} than in any training scan ({limit_mm} mm at {end})")]


def _intensities(brightness: Sequence[Brightness], channels: Sequence[Intensity]) -> list[Flag]:
    flags = []
    for number, (scan, channel) in enumerate(zip(brightness, channels, strict=True)):
        which = _channel(number, channels)
        if scan.hounsfield != (channel.modality == "ct"):
            first, second = "the training scans have", "this scan has"
            if scan.hounsfield:
                first, second = second, first
            flags.append(Flag("intensities", f"{first} Hounsfield units and {second} none{which}"))
            continue
        usual = 5 * HOUNSFIELD if channel.modality == "ct" else OWN_SCALE
        values = scan.quantiles(channel.modality)
        if any(known.distance(x, usual) > FAR for known, x in zip(channel.quantiles, values, strict=False)):
            flags.append(Flag("intensities", f"dark and bright are spread unlike in the training scans{which}"))
    return flags


def _channel(number: int, channels: Sequence[Intensity]) -> str:
    return f" (channel {number + 1})" if len(channels) > 1 else ""
