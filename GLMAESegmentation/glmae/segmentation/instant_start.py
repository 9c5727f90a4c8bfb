"""What every training starts from, and what `finetune --steps 0` writes: a network whose head is fitted already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..scans.classes import IGNORE
from ..scans.normalisation import Normalisation, air
from ..scans.store import ScanStore
from .class_slabs import class_numbers
from .crops import LabelledScan
from .finetune_config import FinetuneConfig
from .head_fit import LabeledMaps, fit_head
from .heads.maps import MapsHead
from .map_store import MapStore, maps_digest
from .network import SegmentationNetwork
from .scan_maps import scan_maps


@dataclass(frozen=True)
class Begun:
    """Where a training begins.

    Attributes:
        network: with a fitted head, where it can be fitted.
        dice: on the prepared grid of its own scans, mean over classes and scans; None if the head is not fitted.
        fits: whether that is enough for gentle learning rates.
    """

    network: SegmentationNetwork
    dice: float | None
    fits: bool


class InstantStart:
    """Networks for trainings on some of the labeled scans of a run.

    Args:
        build: makes the network, always with the same weights.
        config: of the run.
        normalization: of the scans' channels.
        store: the labeled scans, prepared.
        scans: the same.
        maps: of the scans; what is there is not computed again.
        device: where to compute.
    """

    def __init__(
        self,
        build: Callable[[], SegmentationNetwork],
        config: FinetuneConfig,
        normalization: Sequence[Normalisation],
        store: ScanStore,
        scans: Sequence[LabelledScan],
        maps: MapStore,
        device: torch.device,
    ) -> None:
        self._build, self._config, self._store, self._scans = build, config, store, scans
        self._air = [air(entry) for entry in normalization]
        self._maps, self._device = maps, device
        self._known: dict[tuple[int, ...], tuple[dict[str, Tensor], float]] = {}
        self._digest = ""

    def begin(self, indices: Sequence[int], on_step: Callable[[], None] = lambda: None) -> Begun:
        """A network to train on the scans of these indices.

        Args:
            indices: of the scans.
            on_step: called now and then; may raise to stop.
        """
        network, key = self._build(), tuple(indices)
        head = network.head
        if not isinstance(head, MapsHead) or not self._config.start_steps:
            return Begun(network, None, self._config.fits <= 0)
        if key not in self._known:
            network.to(self._device)
            labeled = _OneAtATime(lambda index: self._labeled(network, index, on_step), indices)
            fit_head(head, labeled, self._config.seed, self._config.start_steps, on_step)
            weights = {name: entry.detach().cpu().clone() for name, entry in head.state_dict().items()}
            self._known = {key: (weights, own_dice(network, labeled, self._device))}
        weights, dice = self._known[key]
        head.load_state_dict(weights)
        return Begun(network, dice, dice >= self._config.fits)

    def _labeled(self, network: SegmentationNetwork, index: int, on_step: Callable[[], None]) -> LabeledMaps:
        self._digest = self._digest or maps_digest(network, self._config.crop, self._device)
        scan, name = self._scans[index], f"{self._store.key(index)}.{self._digest}"
        maps = self._maps.find(name)
        if maps is None:
            crop, device = self._config.crop, self._device
            maps = scan_maps(network, scan.image, crop, device, air=self._air, on_window=on_step)
            self._maps.keep(name, maps)
        return LabeledMaps(maps, np.asarray(scan.label), scan.annotated)


class _OneAtATime(Sequence[LabeledMaps]):
    """Labeled scans whose maps are read when they are asked for: memory does not grow with their number."""

    def __init__(self, read: Callable[[int], LabeledMaps], indices: Sequence[int]) -> None:
        self._read, self._indices = read, tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: Any) -> Any:
        return self._read(self._indices[place])


def own_dice(network: SegmentationNetwork, scans: Sequence[LabeledMaps], device: torch.device) -> float:
    """Dice of labeled scans on the prepared grid, mean over scans and the classes in them; 0 where there are none."""
    found = []
    for scan in scans:
        numbers = class_numbers(network, scan.maps, device)
        known = scan.label != IGNORE
        for number, drawn in enumerate(scan.annotated, 1):
            own, other = scan.label == number, (numbers == number) & known
            if drawn and own.any():
                found.append(2 * np.count_nonzero(own & other) / (np.count_nonzero(own) + np.count_nonzero(other)))
    return float(np.mean(found)) if found else 0.0
