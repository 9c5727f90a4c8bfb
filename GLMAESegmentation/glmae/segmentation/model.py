"""A trained model: network, preparation and classes, kept in one portable folder."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import torch

from ..backbone.presets import BackboneConfig
from ..backbone.weights import WEIGHTS, check_names, check_plausible, read_weights, write_weights
from ..errors import ModelError
from ..files import last_line
from ..model_folder import read_model, write_model
from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.preparation import Preparation
from ..scans.store import LabeledScan
from .atlas_fusion import AtlasFusion
from .finetune_config import FinetuneConfig
from .location_prior import LocationPrior
from .network import SegmentationNetwork
from .single_piece import single_pieces

KIND = "segmentation"
# How the names of the location prior's and the atlases' tensors begin in the file of the weights.
LOCATION, ATLASES = "location.", "atlas."
LARGEST_WINDOW = 512**3  # voxels
FINEST_MM, COARSEST_MM = 1e-3, 1e3  # from microscopes to anything a scanner makes


@dataclass(frozen=True)
class Model:
    """What segmenting a scan needs.

    Attributes:
        network: in evaluation mode.
        config: of the fine-tuning run; its crop is the window.
        preparation: how a scan is brought to the network.
        classes: channels 1..n of the network.
        location: where in the body the classes lie; None if that is not used.
        atlases: the labels of the training scans, see `atlas_fusion`; None if they are not used.
        pretrained: name of the backbone that the training began with; None: none, or not known.
    """

    network: SegmentationNetwork
    config: FinetuneConfig
    preparation: Preparation
    classes: ClassTable
    fingerprint: Fingerprint = Fingerprint()
    location: LocationPrior | None = None
    atlases: AtlasFusion | None = None
    pretrained: str | None = None


def finished_model(
    network: SegmentationNetwork,
    config: FinetuneConfig,
    scans: Sequence[LabeledScan],
    location: LocationPrior | None,
    preparation: Preparation,
    classes: ClassTable,
    fingerprint: Fingerprint,
) -> Model:
    """The model of a network that was trained, or fitted, on some scans, with what else is known from these."""
    bound = single_pieces(fingerprint, classes)
    atlases = AtlasFusion.of(scans, bound) if config.atlases else None
    return Model(network.eval(), config, preparation, classes, fingerprint, location, atlases)


def save_model(folder: Path, model: Model, details: Mapping[str, Any]) -> None:
    """Write weights.safetensors, then model.json: a folder with a model.json is complete.

    Args:
        details: further entries of model.json (schedule, scores, training cases, ...).
    """
    tensors = dict(model.network.state_dict())
    if model.location is not None:
        tensors |= {LOCATION + name: tensor for name, tensor in model.location.tensors().items()}
    if model.atlases is not None:
        tensors |= {ATLASES + name: tensor for name, tensor in model.atlases.tensors().items()}
    write_weights(Path(folder) / WEIGHTS, tensors)
    content = {
        "classes": model.classes.to_json(),
        "preprocessing": model.preparation.to_json(),
        "backbone": model.network.backbone.config.to_json(),
        "finetuning": model.config.to_json(),
        "versions": {"torch": torch.__version__, "monai": monai.__version__, "python": platform.python_version()},
        **details,
    }
    write_model(folder, KIND, content)


def _check_plausible(config: FinetuneConfig, backbone: BackboneConfig, preparation: Preparation) -> None:
    """Refuse what would ask for endless memory only when a scan is segmented."""
    sides = config.crop
    if len(sides) != 3 or any(side < 1 or side % token for side, token in zip(sides, backbone.patch_size, strict=True)):
        raise ValueError(f"a window of {list(sides)} voxels does not fit the backbone")
    if math.prod(sides) > LARGEST_WINDOW:
        raise ValueError(f"a window of {list(sides)} voxels is too large")
    if not all(FINEST_MM <= side <= COARSEST_MM for side in preparation.spacing):
        raise ValueError(f"{list(preparation.spacing)} is no spacing in mm")
    if len(preparation.normalization) != backbone.channels:
        raise ValueError("its channels do not fit each other")
    for channel in preparation.normalization:
        if not all(math.isfinite(value) for value in (channel.low, channel.high, channel.mean, channel.std)):
            raise ValueError("a normalization holds a value that is no number")


def load_model(folder: Path, device: torch.device) -> Model:
    """Open a model folder.

    Raises:
        ModelError: missing, damaged, written by another version, or no segmentation model.
    """
    card = read_model(folder, KIND)
    try:
        config = FinetuneConfig.from_json(card.content["finetuning"])
        backbone = BackboneConfig.from_json(card.content["backbone"])
        classes = ClassTable.from_json(card.content["classes"])
        preparation = Preparation.from_json(card.content["preprocessing"])
        check_plausible(backbone, card.weights)
        _check_plausible(config, backbone, preparation)
        fingerprint = Fingerprint.from_json(card.content.get("fingerprint", {}))
        network = SegmentationNetwork(backbone, len(classes.classes))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f"{folder}: model.json is damaged ({last_line(error)}); copy the model again") from error
    weights = read_weights(Path(folder) / WEIGHTS)
    placed, drawn = (
        {name.removeprefix(prefix): weights.pop(name) for name in list(weights) if name.startswith(prefix)}
        for prefix in (LOCATION, ATLASES)
    )
    try:
        location = LocationPrior.from_tensors(placed, len(classes)) if placed else None
        atlases = AtlasFusion.from_tensors(drawn, len(classes)) if drawn else None
        check_names(weights, network.state_dict(), str(folder))
    except (ModelError, ValueError) as error:
        raise ModelError(
            f"{folder}: {WEIGHTS} holds another network than model.json says; if another version of GLMAE made it, "
            "train the model again, else copy its folder again"
        ) from error
    network.load_state_dict(weights)
    network, pretrained = network.to(device).eval(), card.content.get("pretrained")
    return Model(network, config, preparation, classes, fingerprint, location, atlases, pretrained)
