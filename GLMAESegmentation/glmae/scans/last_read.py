"""Cases as they were read last: a job wants the same scan and label for its findings, its measures and its arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import SimpleITK as sitk

from ..events import Events, recorded
from .case import Case, image_state, label_state, state_key
from .classes import ClassTable
from .geometry import Geometry
from .image import read_channels
from .labels import read_label

# Four scans with their labels, if they take no more bytes: of a larger set each is read again, as memory must not grow.
_MOST, _MOST_BYTES = 8, 2**28
_held: OrderedDict[str, tuple[list[sitk.Image], list[dict[str, Any]]]] = OrderedDict()
_lock = Lock()


def case_images(case: Case, events: Events) -> list[sitk.Image]:
    """The channels of a case, as of `read_channels`; not to be changed."""
    return _once(image_state(case), lambda told: read_channels(case.images, told), events)


def case_label(case: Case, grid: Geometry, classes: ClassTable, events: Events) -> sitk.Image:
    """The label of a case on the grid of its scan, as of `read_label`; not to be changed."""
    state = [case.name, grid.to_json(), *label_state(case, classes)]
    return _once(state, lambda told: [read_label(case, grid, classes, told)], events)[0]


def _once(state: list[Any], read: Callable[[Events], list[sitk.Image]], events: Events) -> list[sitk.Image]:
    """What `read` gives, or gave when the state was the same; what it warned of is told each time."""
    key, heard = state_key(state), list[dict[str, Any]]()
    with _lock:
        found = _held.pop(key, None)
    try:
        images, heard = found or (read(recorded(heard)), heard)
    finally:
        for event in heard:
            events.emit(**event)
    with _lock:
        _held[key] = images, heard
        while len(_held) > _MOST or sum(_bytes(image) for kept, _ in _held.values() for image in kept) > _MOST_BYTES:
            _held.popitem(last=False)
    return images


def _bytes(image: sitk.Image) -> int:
    return int(image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent())
