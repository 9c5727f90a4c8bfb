"""What our models do after the network, for the rows `..._post`: so that only networks and training are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from glmae.scans.classes import ClassTable
from glmae.scans.fingerprint import Fingerprint
from glmae.scans.geometry import Geometry
from glmae.segmentation.atlas_fusion import AtlasFusion
from glmae.segmentation.crops import LabeledScan
from glmae.segmentation.location_prior import LocationPrior
from glmae.segmentation.single_piece import certainty_of, certainty_on, keep_largest_parts, single_pieces


@dataclass(frozen=True)
class PostProcessing:
    """Ours, made from the labeled scans of a task.

    Attributes:
        location: where the classes lie.
        atlases: the labels of the scans; None where too few classes have a place.
        single: the classes that are one piece in all labeled scans.
    """

    location: LocationPrior
    atlases: AtlasFusion | None
    single: tuple[int, ...]

    @staticmethod
    def of(scans: Sequence[LabeledScan], fingerprint: Fingerprint, table: ClassTable) -> PostProcessing:
        """From the labeled scans as they are trained on, and their fingerprint."""
        single = tuple(single_pieces(fingerprint, table))
        return PostProcessing(LocationPrior.of(scans), AtlasFusion.of(scans, single), single)

    def weighed(self, probabilities: np.ndarray, image: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """The probabilities [n+1, I, J, K] of a prepared scan, weighed by place and by the labels, of sum one again."""
        sums = torch.from_numpy(probabilities).half()  # as ours are
        planes = slice(0, sums.shape[-1])
        weights = self.location.on(image, spacing).weigh(sums, torch.ones(sums.shape[1:]), planes)
        if self.atlases is not None:
            moved = self.atlases.on(sums.numpy().argmax(axis=0).astype(np.uint8), spacing)
            weights = weights if moved is None else moved.weigh(sums, weights, planes)
        return np.asarray((sums.float() / weights).numpy())

    def keep_largest_parts(
        self, numbers: np.ndarray, native: Geometry, grid: Geometry, probabilities: np.ndarray
    ) -> None:
        """Make background of the other parts of classes that are one piece, in a result [K, J, I]."""
        certainty = certainty_of(probabilities.max(axis=0))
        keep_largest_parts(numbers, self.single, certainty_on(native, grid, certainty))
