"""The labeled scans of a run, segmented by the network in training and compared with the labels that the user gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..devices import is_out_of_memory
from ..errors import Stopped
from ..events import silent
from ..scans.case import Case
from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.geometry import Geometry
from ..scans.labels import case_label
from ..scans.normalization import air
from ..scans.preparation import Preparation
from ..scans.store import ScanStore
from .evaluation import Score, score_case
from .inference import classify_scan
from .model import Model, finished_model
from .network import SegmentationNetwork
from .scan_maps import scan_maps
from .training import Training

NOTHING_KNOWN = Fingerprint()
REMEDY = "train longer (--minutes), check that the labels lie on their structures, or try another --seed"


class LabeledCases:
    """The labeled scans of a run.

    Args:
        store: the same, prepared, in the same order.
        fingerprint: of the cases, for the post-processing.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        store: ScanStore,
        classes: ClassTable,
        preparation: Preparation,
        *,
        fingerprint: Fingerprint = NOTHING_KNOWN,
    ) -> None:
        self.cases, self.store, self.classes, self.preparation = tuple(cases), store, classes, preparation
        self.fingerprint = fingerprint

    @property
    def annotated(self) -> tuple[tuple[bool, ...], ...]:
        """For each scan, for each class, whether it was drawn there."""
        return tuple(self.store.annotated(index) for index in range(len(self.store)))

    def model(self, network: SegmentationNetwork, training: Training) -> Model:
        """What a training gives, with these weights, to segment scans with."""
        return finished_model(
            network,
            training.config,
            training.scans,
            training.location,
            self.preparation,
            self.classes,
            self.fingerprint,
        )

    def segment(self, index: int, training: Training, check: Callable[[], None]) -> sitk.Image:
        """Segment one scan with the averaged weights, as `glmae segment` does.

        Returns:
            UInt8 with 0..n, on the grid of the case's first channel.
        """
        model, image = self.model(training.averaged_network(), training), self.store.image(index)
        empty = [air(entry) for entry in self.preparation.normalization]
        maps = scan_maps(model.network, image, model.config.crop, training.device, air=empty, on_window=check)
        grids = self.store.grid(index), self.store.source(index)
        numbers = range(1, len(self.classes) + 1)
        return classify_scan(model, maps, image, *grids, training.device, values=numbers, on_block=check).labels

    def compare(self, index: int, prediction: sitk.Image, counted: Sequence[bool]) -> list[Score]:
        """Compare a result of `segment` with the label, as `glmae evaluate` does, but for the distances.

        Args:
            counted: for each class, whether it counts where it was drawn.

        Returns:
            Scores with the index as the case: names of cases go into no model.
        """
        label = case_label(self.cases[index], Geometry.of(prediction), self.classes, silent())
        drawn = [a and b for a, b in zip(self.store.annotated(index), counted, strict=True)]
        return score_case(str(index), prediction, label, self.classes.names, drawn, distances=False)

    def score(
        self,
        indices: Sequence[int],
        training: Training,
        counted: Sequence[bool],
        deadline: float | None,
        should_stop: Callable[[], bool],
    ) -> list[Score]:
        """Segment and compare scans; what is not done by the deadline (`time.monotonic`) stays out.

        So does a scan for which memory is not enough: a score is not worth a run.
        """
        scores, check = list[Score](), _checking(deadline, should_stop)
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


def _checking(deadline: float | None, should_stop: Callable[[], bool]) -> Callable[[], None]:
    """What is called between windows: raises Stopped if the user wants to, TimeoutError after the deadline."""

    def check() -> None:
        if should_stop():
            raise Stopped("stopped while labeled scans were segmented; add --resume to go on")
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError

    return check


@dataclass(frozen=True)
class TrainingCheck:
    """Whether a model works on a scan that it was trained on.

    Attributes:
        failure: what is wrong, one sentence; None for nothing.
        not_checked: why nothing can be said, one sentence; None where it was checked.
    """

    failure: str | None = None
    not_checked: str | None = None


def check_training(
    labeled: LabeledCases, training: Training, index: int, deadline: float | None, should_stop: Callable[[], bool]
) -> TrainingCheck:
    """Segment a training scan with the averaged weights, until the deadline (`time.monotonic`)."""
    names, check = labeled.classes.names, _checking(deadline, should_stop)
    try:
        check()
        prediction = labeled.segment(index, training, check)
        scores = labeled.compare(index, prediction, [True] * len(names))
    except TimeoutError:
        return _not_checked("the time was too short to segment one of its scans")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _not_checked("there is not enough memory to segment one of its scans")
    return TrainingCheck(_failure(scores, set(np.unique(sitk.GetArrayViewFromImage(prediction)).tolist()), names))


def _not_checked(reason: str) -> TrainingCheck:
    return TrainingCheck(not_checked=f"Not checked whether the training failed: {reason}. Look at the results.")


def _failure(scores: Sequence[Score], found: set[int], names: Sequence[str]) -> str | None:
    if found == {0}:
        return f"training failed: the model finds nothing, not even in a scan that it was trained on; {REMEDY}"
    if len(found) == 1:
        return f"training failed: the model takes the whole of a scan for '{names[found.pop() - 1]}'; {REMEDY}"
    lost = [
        name
        for number, name in enumerate(names, start=1)
        # Drawn there, so that the volume can be compared, but in no voxel of the result.
        if number not in found and any(score.name == name and score.volume_error is not None for score in scores)
    ]
    if lost:
        which = ", ".join(map(repr, lost))
        return f"training failed for {which}: not found even in a scan that the model was trained on; {REMEDY}"
    return None
