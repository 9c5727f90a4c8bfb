"""What every training starts from, and what `finetune --steps 0` writes: a network whose head is fitted already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..backbone.presets import preset
from ..backbone.vision_transformer import VisionTransformer
from ..backbone.weights import SHIPPED, WEIGHTS, backbone_folder, fitting_trunk, load_backbone, read_weights
from ..checkpoint import load_checkpoint, restore_weights, save_checkpoint
from ..errors import ModelError
from ..events import Events, silent
from ..scans.classes import IGNORE, ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.lasting_plan import LastingPlan
from ..scans.preparation import Preparation
from ..scans.store import ScanStore
from .class_slabs import class_numbers
from .crop_maps import CropMaps, crops_of_each
from .finetune_config import CROP_VOXELS, FinetuneConfig, plan_crop
from .head_fit import LabeledMaps, fit_head
from .location_prior import LocationPrior
from .map_store import MapMaker, MapStore
from .model import Model, finished_model
from .network import PERCEPTRONS, ScanMaps, SegmentationNetwork
from .scan_maps import finished

# The fit tells its progress after so many steps.
TOLD_EVERY = 100


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
        maps: of the scans; what is there is not computed again.
        events: told the progress, stages `features` and `fit`.
        crops: maps of crops; what is there is not computed again. None: they are let go of after each fit.
    """

    def __init__(
        self,
        build: Callable[[], SegmentationNetwork],
        config: FinetuneConfig,
        preparation: Preparation,
        store: ScanStore,
        maps: MapStore,
        device: torch.device,
        events: Events,
        crops: CropMaps | None = None,
    ) -> None:
        self.build, self.config, self._preparation = build, config, preparation
        self.scans = store.labeled(preparation.spacing)
        self._store, self._device, self._events, self._crops = store, device, events, crops
        self._maker = MapMaker(config.crop, preparation.normalization, maps, device)

    def begin(
        self, indices: Sequence[int], on_step: Callable[[], None] = lambda: None, folder: Path | None = None
    ) -> Begun:
        """A network to train on the scans of these indices.

        Args:
            folder: of an unfinished run, whose head is kept there: going on is not to wait for another fit.
        """
        if not self.config.start_steps:
            return Begun(self.build(), None, self.config.fits <= 0)
        name = hashlib.sha256(str(tuple(indices)).encode()).hexdigest()[:16]
        file = None if folder is None else folder / f"{name}.head.safetensors"
        if file is not None:
            with suppress(ModelError):  # it is not there yet, or damaged
                head = load_checkpoint(file)
                network = self.build()
                restore_weights(network.head, network.head.trunk.state_dict(prefix="trunk.") | head.tensors, file)
                return Begun(network, head.state["dice"], head.state["dice"] >= self.config.fits)
        network = self.fit(indices, on_step)
        dice = self.own_dice(network, indices, on_step)
        if file is not None:
            fitted = {key: entry for key, entry in network.head.state_dict().items() if not key.startswith("trunk.")}
            save_checkpoint(file, fitted, {"dice": dice})
        return Begun(network, dice, dice >= self.config.fits)

    def fit(self, indices: Sequence[int], on_step: Callable[[], None] = lambda: None) -> SegmentationNetwork:
        """A network with a head that is fitted to the scans of these indices."""
        network = self.build()
        if not self.config.start_steps:
            return network
        network.to(self._device)
        total, steps = PERCEPTRONS * self.config.start_steps, count(1)

        def step() -> None:
            on_step()
            if (done := next(steps)) % TOLD_EVERY == 0:
                self._events.progress("fit", done, total)

        scans, crops = self._labeled(network, indices, on_step), self._augmented(network, indices, on_step)
        fit_head(network.head, scans, self.config.seed, self.config.start_steps, step, crops)
        return network

    def model(self, network: SegmentationNetwork, classes: ClassTable, fingerprint: Fingerprint) -> Model:
        """What a network of `fit` segments scans with."""
        location = LocationPrior.of(self.scans) if self.config.location else None
        scans, preparation = self.scans, self._preparation
        return finished_model(network, self.config, scans, location, preparation, classes, fingerprint)

    def own_dice(self, network: SegmentationNetwork, indices: Sequence[int], on_step: Callable[[], None]) -> float:
        """Dice of a network of `fit` on the labeled scans of these indices, on the prepared grid.

        Returns:
            The mean over scans and the classes in them; 0 where there are none.
        """
        found = []
        for scan in self._labeled(network, indices, on_step):
            numbers = class_numbers(network, scan.maps, self._device)
            known = scan.label != IGNORE
            for number, drawn in enumerate(scan.annotated, 1):
                own, other = scan.label == number, (numbers == number) & known
                if drawn and own.any():
                    found.append(2 * np.count_nonzero(own & other) / (np.count_nonzero(own) + np.count_nonzero(other)))
        return float(np.mean(found)) if found else 0.0

    def _labeled(
        self, network: SegmentationNetwork, indices: Sequence[int], on_step: Callable[[], None]
    ) -> Sequence[LabeledMaps]:
        def read(index: int) -> LabeledMaps:
            scan, key = self.scans[index], self._store.key(index)
            maps = self._maker.find(network, key)
            if maps is None:
                work = self._maker.make(network, key, scan.image)
                maps = told(work, self._events, self._store.names[index], on_step)
            return LabeledMaps(maps, np.asarray(scan.label), scan.annotated)

        return _OneAtATime(read, indices)

    def _augmented(
        self, network: SegmentationNetwork, indices: Sequence[int], on_step: Callable[[], None]
    ) -> list[LabeledMaps]:
        each, found = crops_of_each(self.config, len(indices)), list[LabeledMaps]()
        keys = [f"{self._store.key(index)} {self._store.label_key(index)} {self.config.crop}" for index in indices]
        crops = CropMaps() if self._crops is None else self._crops
        crops.keep_only(set(keys))
        for index, key in zip(indices, keys, strict=True):

            def tell(done: int, name: str = self._store.names[index]) -> None:
                on_step()
                self._events.progress("crops", done, each, case=name)

            found += crops.of(network, self.scans[index], key, each, self.config, self._device, tell)
        return found


def told(
    work: Generator[tuple[int, int], None, ScanMaps], events: Events, case: str, on_window: Callable[[], None]
) -> ScanMaps:
    """Do all the work of `MapMaker.make` on a case, and tell the progress; `on_window` may raise to stop."""

    def tell(done: int, total: int) -> None:
        events.progress("features", done, total, case=case)
        on_window()

    return finished(work, tell)


class _OneAtATime(Sequence[LabeledMaps]):
    """Labeled scans whose maps are read when they are asked for: memory does not grow with their number."""

    def __init__(self, read: Callable[[int], LabeledMaps], indices: Sequence[int]) -> None:
        self._read, self._indices = read, tuple(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: Any) -> Any:
        return self._read(self._indices[place])


def plan_start(
    source: Model | Path | None,
    store: ScanStore,
    plan: LastingPlan,
    table: ClassTable,
    maps: MapStore,
    device: torch.device,
    settings: Mapping[str, Any],
    seed: int = 0,
    events: Events | None = None,
    crops: CropMaps | None = None,
) -> InstantStart:
    """Choose the network and the configuration of a run. Arguments that are not listed: see `InstantStart`.

    Args:
        source: an earlier model, or the folder of a backbone; None: all weights are random.
        plan: how the scans were prepared, and those to which the crop is to fit.
        settings: fields of the configuration to use instead of the planned ones.
    """
    events, preparation = events or silent(), plan.preparation
    channels = len(preparation.normalization)
    pretrained: VisionTransformer | None = None
    weights: Mapping[str, Tensor] = {}
    crop: tuple[int, int, int] | None = None
    if isinstance(source, Model):
        pretrained, crop = source.network.backbone, source.config.crop
        weights = source.network.head.state_dict()  # those of the trunk are looked for
        backbone = pretrained.config
    elif source is not None:
        pretrained = load_backbone(source, channels=channels, events=events)
        backbone, weights = pretrained.config, read_weights(source / WEIGHTS)
    else:
        backbone = preset(str(settings.get("preset", FinetuneConfig.preset)), channels=channels)
    if crop is None:
        shapes = [store.grid(index).size for index, name in enumerate(store.names) if name in plan.names]
        crop = plan_crop(shapes, backbone.patch_size, CROP_VOXELS[device.type])
    config = FinetuneConfig(crop=crop, preset=backbone.name, seed=seed)
    config = config.changed({name: value for name, value in settings.items() if name != "preset"})

    def build() -> SegmentationNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = SegmentationNetwork(backbone, len(table.classes))
        if pretrained is not None:
            network.backbone.load_state_dict(pretrained.state_dict())
        trunk = network.head.trunk
        if weights:
            trunk.load_state_dict(trunk.state_dict() | fitting_trunk(weights, trunk, events))
        return network

    return InstantStart(build, config, preparation, store, maps, device, events, crops)


def starting_backbone(name: str | None) -> Path | None:
    """Folder of the backbone to start from; None for none."""
    if name == "none" or (name is None and not (SHIPPED / FinetuneConfig.preset).is_dir()):
        return None
    return backbone_folder(name or FinetuneConfig.preset)
