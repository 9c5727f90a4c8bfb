"""The labeled scans of a run, segmented by the network in training and compared with the labels that the user gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import SimpleITK as sitk

from ..errors import Stopped
from ..memory import is_out_of_memory
from ..scans.cases import Case
from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.geometry import Geometry
from ..scans.image import read_image
from ..scans.labels import read_label
from ..scans.preparation import Preparation
from ..scans.restoring import restore_classes, scan_classes
from ..scans.store import ScanStore
from .evaluation import Score, score_case
from .single_piece import keep_largest_parts, single_pieces
from .sliding_window import class_probabilities
from .training import Training


class LabelledCases:
    """The labelled scans of a run.

    Args:
        cases: as found.
        store: the same, prepared, in the same order.
        classes: channels 1..n of the network.
        preparation: of the store.
        fingerprint: of the cases, for the post-processing.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        store: ScanStore,
        classes: ClassTable,
        preparation: Preparation,
        *,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        self.cases, self.store, self.classes, self.preparation = tuple(cases), store, classes, preparation
        self.fingerprint = fingerprint

    @property
    def annotated(self) -> tuple[tuple[bool, ...], ...]:
        """For each scan, for each class, whether it was drawn there."""
        return tuple(self.store.annotated(index) for index in range(len(self.store)))

    def segment(self, index: int, training: Training, check: Callable[[], None]) -> sitk.Image:
        """Segment one scan with the averaged weights, as `glmae segment` does.

        Args:
            index: of the scan.
            training: whose network is used.
            check: called between windows; may raise.

        Returns:
            UInt8 with 0..n, on the grid of the case's first channel.
        """
        image, prior = self.store.image(index), training.location
        probabilities = class_probabilities(
            training.averaged_network(),
            image,
            training.config.patch,
            training.device,
            on_window=check,
            location=prior.on(image, self.store.grid(index).spacing) if prior else None,
        )
        source, grid = Geometry.of(read_image(self.cases[index].images[0])), self.store.grid(index)
        numbers = scan_classes(probabilities, grid, source)
        keep_largest_parts(numbers, single_pieces(self.fingerprint, self.classes))
        return restore_classes(numbers, source.along(grid.direction), source, range(1, len(self.classes) + 1))

    def compare(self, index: int, prediction: sitk.Image, counted: Sequence[bool]) -> list[Score]:
        """Compare a result of `segment` with the label, as `glmae evaluate` does, but for the distances.

        Args:
            index: of the scan.
            prediction: its segmentation.
            counted: for each class, whether it counts where it was drawn.

        Returns:
            Scores with the index as the case: names of cases go into no model.
        """
        label = read_label(self.cases[index], Geometry.of(prediction), self.classes)
        drawn = [a and b for a, b in zip(self.store.annotated(index), counted, strict=True)]
        return score_case(str(index), prediction, label, self.classes.names, drawn, distances=False)

    def score(
        self, indices: Sequence[int], training: Training, counted: Sequence[bool], check: Callable[[], None]
    ) -> list[Score]:
        """Segment and compare scans, until `check` raises TimeoutError: what is not done by then stays out.

        So does a scan for which memory is not enough: a score is not worth a run.
        """
        scores: list[Score] = []
        for index in indices:
            try:
                check()
                scores += self.compare(index, self.segment(index, training, check), counted)
            except TimeoutError:
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
        return scores


def checking(deadline: float | None, should_stop: Callable[[], bool]) -> Callable[[], None]:
    """What is called between windows: raises Stopped if the user wants to, TimeoutError after the deadline."""

    def check() -> None:
        if should_stop():
            raise Stopped("stopped while labeled scans were segmented; add --resume to go on")
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError

    return check
