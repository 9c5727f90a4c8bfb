"""A scan as it was read, and as the network sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..events import Events
from ..scans.case import Case
from ..scans.geometry import Geometry
from ..scans.image import read_channels
from ..scans.memory import check_memory
from ..scans.preparation import prepare_image
from ..scans.store import stored
from .model import Model


@dataclass(frozen=True)
class PreparedScan:
    """One scan.

    Attributes:
        image: prepared, [C, I, J, K] float16, as `ScanStore` has it: a scan gives the same result on every way.
        grid: of the prepared scan.
    """

    images: tuple[sitk.Image, ...]
    image: np.ndarray
    grid: Geometry


def read_scan(model: Model, case: Case, events: Events, beside: bool = False) -> PreparedScan:
    """Read and prepare a case.

    Args:
        beside: while another scan is in work: it has to leave half of the free memory to that one.

    Raises:
        ScanError: it cannot be read, does not fit into memory, or has another number of channels than the model.
    """
    check_scan(model, case, 0.5 if beside else 1.0)
    images = read_channels(case.images, events)
    image, grid = prepare_image(images, model.preparation)
    return PreparedScan(tuple(images), stored(image), grid)


def check_scan(model: Model, case: Case, share: float = 1.0) -> None:
    """Refuse a case that cannot be segmented, by its headers; `share` is that of the free memory it may take.

    Raises:
        ScanError: it does not fit into memory, or has another number of channels than the model.
    """
    channels = len(model.preparation.normalization)
    if len(case.images) != channels:
        raise ScanError(f"{case.name}: {len(case.images)} channels, but the model was trained with {channels}")
    check_memory(case.name, case.images, model.preparation, len(model.classes), model.config.crop[2], share)
