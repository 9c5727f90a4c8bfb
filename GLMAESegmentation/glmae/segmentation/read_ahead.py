"""Reading the next scan while the present one is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import SimpleITK as sitk

from ..errors import ScanError
from ..events import Events
from ..scans.cases import Case
from ..scans.geometry import Geometry
from ..scans.image import read_channels
from ..scans.memory import check_memory
from ..scans.preparation import prepare_image
from ..scans.store import stored
from .model import Model


@dataclass(frozen=True)
class PreparedScan:
    """One scan as it was read, and as the network sees it.

    Attributes:
        images: the channels.
        image: prepared, [C, I, J, K] float16, as `ScanStore` has it: a scan gives the same result on every way.
        grid: of the prepared scan.
    """

    images: tuple[sitk.Image, ...]
    image: np.ndarray
    grid: Geometry


def read_scan(model: Model, case: Case, events: Events, beside: bool = False) -> PreparedScan:
    """Read and prepare a case.

    Args:
        model: that is going to segment it.
        case: its images.
        events: told about what had to be adapted.
        beside: while another scan is in work: it has to leave half of the free memory to that one.

    Raises:
        ScanError: it cannot be read, does not fit into memory, or has another number of channels than the model.
    """
    channels = len(model.preparation.normalisation)
    if len(case.images) != channels:
        raise ScanError(f"{case.name}: {len(case.images)} channels, but the model was trained with {channels}")
    share = 0.5 if beside else 1.0
    check_memory(case.name, case.images, model.preparation, len(model.classes), model.config.crop[2], share)
    images = read_channels(case.images, events)
    image, grid = prepare_image(images, model.preparation)
    return PreparedScan(tuple(images), stored(image), grid)


class ReadAhead:
    """Reads one scan in advance, in a thread; a scan that cannot be read fails when its turn has come.

    Args:
        read: reads a case; told whether another scan is in work.
    """

    def __init__(self, read: Callable[[Case, bool], PreparedScan]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read ahead")
        self._next: tuple[Case, Future[PreparedScan]] | None = None

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def begin(self, case: Case | None) -> None:
        """Begin to read a case; None: nothing."""
        self._next = None if case is None else (case, self._thread.submit(self._read, case, True))

    def take(self, case: Case) -> PreparedScan:
        """A case, read in advance or now."""
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == case:
            try:
                return ahead[1].result()
            except Exception:
                pass  # it was too large beside another scan; else it fails again, and that is told
        elif ahead is not None:
            ahead[1].cancel()
        return self._read(case, False)
