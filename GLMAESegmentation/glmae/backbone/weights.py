"""Pre-trained backbones: found by name or path, read without pickle, fitted to other channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..errors import ModelError, RequestError
from ..events import Events, silent
from ..files import last_line, whole_file
from ..model_folder import CARD, WEIGHTS, read_model
from .presets import BackboneConfig
from .trunk import Trunk
from .vision_transformer import VisionTransformer

SHIPPED = Path(__file__).resolve().parents[2] / "Resources" / "Models"
PROJECTION = "patch_embed.proj.weight"
# What a backbone file holds beside the encoder: the decoder of pre-training.
DECODER_NAMES = ("mask_token", "decoder_")
# And the convolutional trunk, where it was pre-trained, too.
TRUNK = "trunk."


def backbone_folder(name: str | Path) -> Path:
    """The folder of a backbone: a path, or the name of one that is shipped.

    Raises:
        RequestError: neither a folder nor a shipped backbone.
    """
    for folder in (Path(name), SHIPPED / str(name)):
        if (folder / CARD).is_file():
            return folder
    shipped = sorted(entry.parent.name for entry in SHIPPED.glob(f"*/{CARD}"))
    choice = f"one of {', '.join(shipped)}, " if shipped else ""
    raise RequestError(f"there is no backbone '{name}'; choose {choice}a folder made by pretrain, or none")


def load_backbone(folder: Path, *, channels: int | None = None, events: Events | None = None) -> VisionTransformer:
    """The pre-trained vision transformer of a backbone folder.

    For other channels its projection is the mean over those that it has, scaled so that an input repeated in all
    channels gives the same tokens.

    Args:
        channels: input channels wanted; None: the file's.

    Raises:
        ModelError: the folder is damaged, or a name or shape does not fit its configuration.
    """
    config = read_config(folder)
    tensors = {
        name: tensor.float()
        for name, tensor in read_weights(folder / WEIGHTS).items()
        if not name.startswith((*DECODER_NAMES, TRUNK))
    }
    backbone = VisionTransformer(config)
    check_names(tensors, backbone.state_dict(), str(folder))
    if channels is not None and channels != config.channels:
        backbone = VisionTransformer(replace(config, channels=channels))
        tensors[PROJECTION] = _repeated(tensors[PROJECTION], channels)
        (events or silent()).info(
            f"The backbone was pre-trained on {config.channels} channel(s); its input was adapted to {channels}."
        )
    backbone.load_state_dict(tensors)
    return backbone


def fitting_trunk(weights: Mapping[str, Tensor], trunk: Trunk, events: Events | None = None) -> dict[str, Tensor]:
    """What of a backbone's weights belongs to the convolutional trunk and fits `trunk`.

    Args:
        trunk: the one to be started; its first convolution may read other channels, see `load_backbone`.
        events: told if the trunk has another shape and starts from scratch.

    Returns:
        Name in `trunk` -> float32 tensor: all of them, or none.
    """
    found = {name.removeprefix(TRUNK): t.float() for name, t in weights.items() if name.startswith(TRUNK)}
    wanted = trunk.state_dict()
    for name, tensor in found.items():
        mine = wanted.get(name)
        if mine is not None and mine.ndim == 5 and mine.shape[0::2] == tensor.shape[0::2]:
            found[name] = _repeated(tensor, mine.shape[1])
    fits = {name: tensor.shape for name, tensor in found.items()} == {name: t.shape for name, t in wanted.items()}
    if found and not fits:  # most backbones hold none: the paper's four terms do not train it
        (events or silent()).info("The backbone's convolutional trunk does not fit; it is trained from scratch.")
    return found if fits else {}


def read_config(folder: Path) -> BackboneConfig:
    """The shape of the backbone in `folder`, from its model.json.

    Raises:
        ModelError: the folder is damaged, or holds no backbone but a segmentation model.
    """
    card = read_model(folder, "backbone")
    try:
        config = BackboneConfig.from_json(card.content["backbone"])
        check_plausible(config, card.weights)
        return config
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"{folder / CARD} describes no backbone ({last_line(error)}); choose another folder"
        ) from error


def check_plausible(config: BackboneConfig, weights: Path) -> None:
    """Refuse, before any memory is asked for, a shape that no transformer has or that its own file could not hold.

    Raises:
        ValueError: with the reason, in words.
    """
    decoder = (config.global_view, config.local_view, config.decoder_width, config.decoder_depth, config.decoder_heads)
    for side in (config.channels, config.width, config.depth, config.heads, *config.patch_size, *config.grid, *decoder):
        if not 1 <= side < 2**20:
            raise ValueError(f"{side!r} is no size")
    if config.width % config.heads:
        raise ValueError("its sizes do not fit each other")
    if not 0 < config.mlp_ratio <= 64 or max(config.decoder_width, config.global_view, config.local_view) > 8192:
        raise ValueError("its sizes are too large")
    # At least a byte for each number of attention, projection and position table.
    least = config.width * (4 * config.width * config.depth + config.patch_voxels + math.prod(config.grid))
    if least > weights.stat().st_size or config.decoder_depth > 1024:
        raise ValueError(f"it is larger than {weights.name}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, by name, on the CPU.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing; copy the whole folder again")
    try:
        # Clones, because Windows does not let a file be replaced while tensors still look into it.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({last_line(error)}); copy the folder again") from error


def write_weights(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all.

    Args:
        tensors: by name, on any device; no two may share memory.
        header: texts to keep in the file's header.

    Raises:
        StorageError: the file cannot be written.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Serialized here and written by Python, because safetensors' own writer hides why the system refused.
    content = save(on_cpu, metadata=dict(header or {}))
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def check_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str) -> None:
    """Compare names and shapes with those of a network.

    Raises:
        ModelError: naming what is missing, unexpected or of another shape.
    """
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ModelError(f"{origin} does not fit the backbone ({shown}); choose other weights or another preset")


def _repeated(kernel: Tensor, channels: int) -> Tensor:
    """A kernel [D, C, I, J, K] for other input channels, which give the same result if all hold the mean of the C."""
    if kernel.shape[1] == channels:
        return kernel
    return kernel.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1, -1) / channels
