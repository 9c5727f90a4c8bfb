"""Images as they were read last: a job wants the same scan and label for its findings, its measures and its arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import SimpleITK as sitk

from ..events import Events, recorded

# Four scans with their labels, if they take no more bytes: of a larger set each is read again, as memory must not grow.
_MOST, _MOST_BYTES = 8, 2**28
_held: OrderedDict[str, tuple[list[sitk.Image], list[dict[str, Any]]]] = OrderedDict()
_lock = Lock()


def read_once(key: str, read: Callable[[Events], list[sitk.Image]], events: Events) -> list[sitk.Image]:
    """What `read` gives, or gave when the key was the same; what it warned of is told each time."""
    heard: list[dict[str, Any]] = []
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
