"""The engine in Python: five functions and the module `GLMAE`, also as `glmae.NAME`. docs/python.md shows them.

All raise `errors.GLMAEError` with one sentence for what a user can mend: a missing folder, a damaged scan, a full disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .backbone.vision_transformer import VisionTransformer
from .backbone.weights import load_backbone
from .devices import choose_device
from .errors import RequestError
from .events import Events, silent
from .files import write_json
from .model_folder import read_model
from .pretraining.gl_mae import GLMAE
from .pretraining.image_files import pretrain_images
from .scans.case import Case
from .scans.cases import find_images
from .scans.classes import ClassTable
from .scans.geometry import Geometry
from .scans.preparation import prepare_image
from .scans.restoring import scan_probabilities
from .scans.store import stored
from .segmentation.batch import segment as _segment
from .segmentation.class_slabs import Slab
from .segmentation.evaluation import Score, compare_folders, report
from .segmentation.finetuning import finetune as _finetune
from .segmentation.inference import PreparedScan, read_scan, segment_case
from .segmentation.model import Model as _OpenModel
from .segmentation.model import load_model as _open
from .segmentation.network import SegmentationNetwork
from .segmentation.result import FORMATS, write_result

__all__ = [
    "GLMAE",
    "Backbone",
    "Batch",
    "Model",
    "Score",
    "Segmentation",
    "evaluate",
    "finetune",
    "load_model",
    "pretrain",
    "segment",
]

PathLike = str | os.PathLike[str]
# What a job reports, as `glmae --events` prints it (docs/events.md).
Listener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Backbone:
    """A pre-trained backbone.

    Attributes:
        folder: with `model.json` and `weights.safetensors`.
        failed: names of the scans that could not be read and were left out.
    """

    folder: Path
    failed: tuple[str, ...] = ()

    def transformer(self) -> VisionTransformer:
        """The encoder as an nn.Module, on the CPU: [B, C, I, J, K] -> tokens [B, 1 + N, width], CLS first.

        Voxels lie in RAS order and are normalized as `preprocessing` in model.json says.
        """
        return load_backbone(self.folder)


@dataclass(frozen=True)
class Segmentation:
    """One segmented scan.

    Attributes:
        labels: label map on the scan's own grid, with the label values of `classes`; 0 is background.
        classes: names, label values, colors and terminology.
        uncertainty: mean of 1 - (largest probability) over each class that was found, by its name, 0-1.
        probabilities: for each class by name its probability, float32 0-1 on the scan's own grid, before only the
            largest part of a class is kept; None where it was not asked for.
    """

    labels: sitk.Image
    classes: ClassTable
    uncertainty: dict[str, float]
    probabilities: dict[str, sitk.Image] | None = None
    _case: Case = field(default=Case("scan", ()), repr=False)

    def save(self, path: PathLike) -> Path:
        """Write it as `.seg.nrrd`, `.nii.gz`, or `.dcm` for a DICOM series; whole or not at all.

        Raises:
            RequestError: another ending.
            StorageError: it cannot be written.
        """
        path = Path(path)
        if not path.name.endswith(tuple(f".{name}" for name in FORMATS)):
            raise RequestError(f"{path}: a segmentation is written as {', '.join(FORMATS)}; choose such an ending")
        write_result(path, self.labels, self.classes, self._case)
        return path


@dataclass(frozen=True)
class Model:
    """A trained segmentation model.

    Attributes:
        folder: with `model.json` and `weights.safetensors`.
        classes: names of the structures it finds.
        scores: `scores` of model.json: Dice of held-out scans where `folds` were asked for.
        failed: the sentence that says that training failed; None: it did not.
    """

    folder: Path
    classes: tuple[str, ...]
    scores: Mapping[str, Any] = field(repr=False)
    failed: str | None = None
    _open: dict[str, _OpenModel] = field(default_factory=dict, repr=False, compare=False)

    @property
    def network(self) -> SegmentationNetwork:
        """The nn.Module on the CPU: prepared scans [B, C, I, J, K] -> logits [B, n + 1, I, J, K], background first."""
        return self._on("cpu").network

    def segment(
        self,
        scan: PathLike | sitk.Image | Sequence[PathLike] | Sequence[sitk.Image],
        *,
        probabilities: bool = False,
        device: str = "auto",
    ) -> Segmentation:
        """Segment one scan; nothing is written. For many scans, and a report, see `segment`.

        Args:
            scan: an image file, a DICOM folder, a SimpleITK image, or several, one for each channel.
            probabilities: give those, too; 4 bytes for each class and voxel.
            device: auto, cpu, cuda or mps.

        Raises:
            ScanError: it cannot be read, or has other channels than the model was trained with.
        """
        chosen = choose_device(device)[0]
        model = self._on(chosen.type)
        case, read = _scan(model, [scan] if isinstance(scan, str | os.PathLike | sitk.Image) else list(scan))
        slabs: list[np.ndarray] = []

        def keep(slab: Slab) -> None:
            slabs.append(slab.probabilities())

        result = segment_case(model, case, chosen, scan=read, on_slab=keep if probabilities else None)
        maps = None
        if probabilities:
            found = scan_probabilities(np.concatenate(slabs, axis=3), read.grid, Geometry.of(read.images[0]))
            maps = dict(zip(self.classes, found, strict=True))
        names = {entry.value: entry.name for entry in model.classes}
        uncertainty = {names[value]: share for value, share in result.uncertainty.items()}
        return Segmentation(result.labels, model.classes, uncertainty, maps, case)

    def _on(self, device: str) -> _OpenModel:
        if device not in self._open:
            self._open[device] = _open(self.folder, choose_device(device)[0])
        return self._open[device]


@dataclass(frozen=True)
class Batch:
    """Many segmented scans.

    Attributes:
        folder: of the results; its folder `report` says of each how sure the model was and what is to be looked at.
        failed: names of the scans that could not be segmented.
    """

    folder: Path
    failed: tuple[str, ...] = ()


def pretrain(
    images: PathLike,
    out: PathLike,
    *,
    preset: str = "tiny",
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
) -> Backbone:
    """Pre-train a backbone on scans without labels, as `glmae pretrain` does.

    Args:
        images: folder of scans, or a text file with one path a line.
        out: folder of the backbone, made here.
        preset: tiny, small or base.
        steps: length of the run; the same seed gives the same weights on the CPU.
        minutes: length of the run instead, everything included; 10 where neither is given.
        seed: of everything random.
        device: auto, cpu, cuda or mps.
        resume: go on with an interrupted run in `out`.
        settings: fields of `pretraining.configuration.PretrainConfig` to change.
        on_event: called with each event.
    """
    failed = pretrain_images(
        images=Path(images),
        out=Path(out),
        preset=preset,
        **_length(steps, minutes),
        seed=seed,
        device=device,
        resume=resume,
        settings=settings,
        events=_events(on_event),
    )
    return Backbone(Path(out), tuple(failed))


def finetune(
    images: PathLike,
    labels: PathLike,
    out: PathLike,
    *,
    backbone: Backbone | PathLike | None = None,
    start: Model | PathLike | None = None,
    cases: Sequence[str] | None = None,
    classes: PathLike | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    folds: int = 0,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
) -> Model:
    """Train a segmentation model on a few labeled scans, as `glmae finetune` does.

    Args:
        images: folder of scans.
        labels: folder of labels with the same names.
        out: folder of the model, made here.
        backbone: what `pretrain` gave, a folder, the name of a shipped one, or "none"; None: the shipped one.
        start: an earlier model to go on from instead.
        cases: names to train on; None: all that have a label.
        classes: a classes.json; None: the labels' own names.
        steps: length of the run; 0: only a head is fitted to the frozen backbone. The same seed gives the same weights
            on the CPU.
        minutes: length of the run instead, everything included; 10 where neither is given.
        folds: further trainings, each without a part of the scans, on which it is scored.
        seed: of everything random.
        device: auto, cpu, cuda or mps.
        resume: go on with an interrupted run in `out`.
        settings: fields of `segmentation.finetune_config.FinetuneConfig` to change.
        on_event: called with each event.
    """
    if backbone is not None:
        backbone = os.fspath(backbone.folder if isinstance(backbone, Backbone) else backbone)
    _finetune(
        images=Path(images),
        labels=Path(labels),
        out=Path(out),
        cases=cases,
        classes=None if classes is None else Path(classes),
        backbone=backbone,
        start=_folder(start),
        **_length(steps, minutes),
        folds=folds,
        seed=seed,
        device=device,
        resume=resume,
        settings=settings,
        events=_events(on_event),
    )
    return load_model(out)


def load_model(folder: PathLike) -> Model:
    """A model that `finetune` has made; its weights are read when they are needed.

    Raises:
        ModelError: the folder is no model, is damaged, or of another version.
    """
    card = read_model(Path(folder), "segmentation")
    scores = card.content.get("scores") or {}
    return Model(Path(folder), tuple(card.classes.names), scores, scores.get("failure"))


def segment(
    model: Model | PathLike,
    images: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    file_format: str = "seg.nrrd",
    device: str = "auto",
    on_event: Listener | None = None,
) -> Batch:
    """Segment many scans into a folder, with a report, as `glmae segment` does; results that are there are kept.

    Args:
        model: what `finetune` or `load_model` gave, or its folder.
        images: scans, folders of scans or DICOM files, text files with one path a line.
        out: folder of the results.
        file_format: seg.nrrd, nii.gz or dcm.
        device: auto, cpu, cuda or mps.
        on_event: called with each event.
    """
    failed = _segment(
        model=_folder(model),
        images=[Path(images)] if isinstance(images, str | os.PathLike) else [Path(path) for path in images],
        out=Path(out),
        file_format=file_format,
        device=device,
        events=_events(on_event),
    )
    return Batch(Path(out), tuple(failed))


def evaluate(
    predictions: PathLike, labels: PathLike, *, classes: PathLike | None = None, out: PathLike | None = None
) -> list[Score]:
    """Compare segmentations with labels of the same names, as `glmae evaluate` does.

    Args:
        predictions: folder of results.
        labels: folder of labels.
        classes: a classes.json; None: the labels' own names.
        out: a report.json to write, too.

    Returns:
        For each case and each class that was drawn in it: Dice 0-1, 95 % Hausdorff distance in mm, and volume error as
        a share.
    """
    scores, _ = compare_folders(Path(predictions), Path(labels), None if classes is None else Path(classes))
    if out is not None:
        write_json(Path(out), report(scores))
    return scores


def _folder(model: Any) -> Any:
    """Where a model lies that is given opened, or as a folder; None stays None."""
    return model.folder if isinstance(model, Model) else model if model is None else Path(model)


def _length(steps: int | None, minutes: float | None) -> dict[str, Any]:
    return {"steps": steps, "minutes": 10.0 if steps is None and minutes is None else minutes}


def _events(on_event: Listener | None) -> Events:
    return silent() if on_event is None else Events(on_event)


def _scan(model: _OpenModel, channels: list[Any]) -> tuple[Case, PreparedScan]:
    """One scan of files, or of images in memory, read and prepared."""
    if not all(isinstance(channel, sitk.Image) for channel in channels):
        paths = [Path(channel) for channel in channels]
        case = find_images(paths)[0] if len(paths) == 1 else Case("scan", tuple(paths))
        return case, read_scan(model, case, silent())
    wanted = len(model.preparation.normalization)
    if len(channels) != wanted or any(
        channel.GetDimension() != 3 or channel.GetNumberOfComponentsPerPixel() != 1 for channel in channels
    ):
        raise RequestError(
            f"the model needs {wanted} image(s) of one scan, three-dimensional and with one value a voxel"
        )
    image, grid = prepare_image(channels, model.preparation)
    return Case("scan", ()), PreparedScan(tuple(channels), stored(image), grid)
