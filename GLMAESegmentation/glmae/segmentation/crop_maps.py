"""Augmented crops, to whose maps the head is fitted beside those of the labeled scans as they are.

A head that was fitted to one scan alone takes its size, its turn and its brightness for what tells the classes apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container

import numpy as np
import torch

from ..scans.classes import IGNORE
from ..scans.store import LabeledScan
from .crops import CropSampler, crops_device
from .finetune_config import FinetuneConfig
from .head_fit import LabeledMaps
from .location_prior import NEAR, LocationPrior
from .network import SegmentationNetwork
from .scan_maps import scan_maps

# Of many labeled scans each gives fewer crops: together no more than these. 48 took longer, for the same Dice.
MOST = 32
# The outermost eighth of a crop is not looked at: its maps lack what lies beyond.
MARGIN = 8


def crops_of_each(config: FinetuneConfig, scans: int) -> int:
    """How many crops each of so many labeled scans gives."""
    return min(config.start_crops, math.ceil(MOST / scans))


class CropMaps:
    """Maps of crops, kept in memory while scan and label stay: some 6 MB a crop of 64^3."""

    def __init__(self) -> None:
        self._kept: dict[str, list[LabeledMaps]] = {}

    def keep_only(self, keys: Container[str]) -> None:
        """Forget the others."""
        self._kept = {key: kept for key, kept in self._kept.items() if key in keys}

    def of(
        self,
        network: SegmentationNetwork,
        scan: LabeledScan,
        key: str,
        count: int,
        config: FinetuneConfig,
        device: torch.device,
        on_crop: Callable[[int], None],
    ) -> list[LabeledMaps]:
        """The maps of so many crops, drawn as for training; the first ones are the same for every number.

        Args:
            key: of the prepared scan, its label and the size of the crops.
            on_crop: called before the maps of a crop are made, with its number; may raise to stop.
        """
        kept = self._kept.setdefault(key, [])
        del kept[count:]
        if len(kept) < count:
            near = [LocationPrior.of([scan]).on(scan.image, scan.spacing).near(NEAR)] if config.location else None
            sampler = CropSampler(
                [scan], config.crop, 1, config.foreground, config.augmentation, config.seed, near, crops_device(device)
            )
            for number in range(len(kept), count):
                on_crop(number)
                batch = sampler.batch(number)
                maps = scan_maps(network, batch.image[0].cpu().numpy(), config.crop, device)
                kept.append(LabeledMaps(maps, _inner(batch.target[0].cpu().numpy()), scan.annotated))
        return kept


def _inner(label: np.ndarray) -> np.ndarray:
    """The label with its border unknown."""
    inside = tuple(slice(side // MARGIN, side - side // MARGIN) for side in label.shape)
    inner = np.full_like(label, IGNORE)
    inner[inside] = label[inside]
    return inner
