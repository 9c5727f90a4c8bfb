"""The authors' published checkpoint, read without running anything in it, and written as a backbone folder.

Order of axes (our choice, the authors do not state it): the three axes of the patch projection are I, J, K (Right,
Anterior, Superior), and the rows of `pos_embed` after CLS run over the patches with K fastest. That is what a Conv3d
followed by a flatten gives on scans in RAS order, and what this backbone does, so that no tensor is rearranged.
"""

from __future__ import annotations

import argparse
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import GLMAEError, ModelError, RequestError
from ..events import Events, silent
from ..files import last_line, sha256, storage_error
from ..model_folder import CARD, WEIGHTS, write_model
from .presets import PRESETS, BackboneConfig
from .vision_transformer import VisionTransformer
from .weights import PROJECTION, write_weights

# Where the weights lie, in the order in which they are looked for; DINO keeps the optimizer and the rest beside them.
LAYOUTS = ("student", "state_dict", "model")
PREFIXES = ("module.backbone.", "backbone.", "module.", "")
# The parts of pre-training that may stand beside the encoder: `head.mlp.0.weight`, `mask_token`, `decoder_blocks.0...`.
OTHER_PARTS = re.compile(r"(mask_token|decoder(_\w+)?|(\w+_)?(head|projector|predictor)s?)(\.|$)")


class PublishedSize(NamedTuple):
    """A published vision transformer: its name, blocks and attention heads, which cannot be seen in the weights."""

    name: str
    depth: int
    heads: int


# By width: the published checkpoint's family (arXiv 2010.11929, table 1) and its two small members (arXiv 2012.12877).
SIZES = {
    192: PublishedSize("ViT-Ti", 12, 3),
    384: PublishedSize("ViT-S", 12, 6),
    768: PublishedSize("ViT-B", 12, 12),
    1024: PublishedSize("ViT-L", 24, 16),
    1280: PublishedSize("ViT-H", 32, 16),
}


@dataclass(frozen=True)
class PublishedEncoder:
    """What was read.

    Attributes:
        config: the encoder's shape, recognized from its tensors.
        tensors: the encoder's weights by our names, as they are in the file.
        layout: the key that held them; empty for a bare file.
        prefix: what stood before the encoder's names.
        other: names of heads and decoder, without prefix; they are not needed.
    """

    config: BackboneConfig
    tensors: dict[str, Tensor]
    layout: str
    prefix: str
    other: tuple[str, ...]


def import_checkpoint(file: Path, out: Path, *, events: Events | None = None) -> Path:
    """Write the encoder of a published checkpoint as a backbone folder for `finetune --backbone`.

    Args:
        out: folder to make; an empty one is taken, anything else is left alone.

    Returns:
        The folder: weights.safetensors and, last, model.json.

    Raises:
        RequestError: `file` is missing, or `out` is taken.
        ModelError: the file is damaged, holds more than weights and settings, or is no such encoder.
        StorageError: the folder cannot be written; nothing is left behind.
    """
    file, out, events = Path(file), Path(out), events or silent()
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file; choose another folder with --out")
    if out.is_dir() and any(out.iterdir()):
        raise RequestError(f"{out} is not empty; choose a new folder with --out")
    encoder = read_checkpoint(file)
    try:
        digest = sha256(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({last_line(error)}); copy it to another disk") from error
    config, name = encoder.config, SIZES[encoder.config.width].name
    events.started("import-checkpoint")
    sides = " x ".join(str(side) for side in config.patch_size)
    events.info(
        f"Recognized {name}: {config.depth} blocks, {config.heads} heads, patches of {sides} voxels, "
        f"{config.channels} channel(s), positions for {' x '.join(str(side) for side in config.grid)} patches."
    )
    if encoder.other:
        parts = sorted({part.split(".")[0] for part in encoder.other})
        events.info(f"Not imported, as only pre-training needs them: {', '.join(parts)}.")
    content = {
        "backbone": config.to_json(),
        "imported": {
            "size": name,
            "sha256": digest,
            "layout": encoder.layout,
            "prefix": encoder.prefix,
            "not_imported": len(encoder.other),
            "axes": "I, J, K; patches row by row, K fastest",
        },
        "versions": {"torch": torch.__version__},
    }
    _write(out, encoder.tensors, content)
    events.finished("import-checkpoint", message=f"The backbone is in {out}.", backbone=str(out))
    return out


def read_checkpoint(file: Path) -> PublishedEncoder:
    """Read the encoder of a published checkpoint; every name and shape is compared with our backbone's.

    Raises:
        RequestError: the file is missing.
        ModelError: it is damaged, holds more than weights and settings, or is no such encoder.
    """
    layout, state = _weights(file, _content(file))
    prefix = next((prefix for prefix in PREFIXES if prefix + PROJECTION in state), None)
    if prefix is None:
        shown = ", ".join(list(state)[:5]) or "nothing"
        raise ModelError(f"{file} holds no {PROJECTION}, only {shown}; choose a checkpoint of a 3D vision transformer")
    inside = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    found = {name: tensor for name, tensor in inside.items() if not OTHER_PARTS.match(name)}
    outside = [name for name in state if not name.startswith(prefix)]
    strangers = [name for name in outside if not OTHER_PARTS.match(name.removeprefix("module."))]
    config = _recognize(file, found)
    with torch.device("meta"):
        expected = VisionTransformer(config).state_dict()
    _check(file, found, expected, strangers)
    # Copies, because what a file maps into one memory cannot be written as separate tensors.
    tensors = {name: found[name].detach().clone(memory_format=torch.contiguous_format) for name in expected}
    damaged = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if damaged:
        raise ModelError(f"{file} holds values that are not finite ({', '.join(damaged)}); copy the file again")
    other = [name for name in inside if name not in found] + [name.removeprefix("module.") for name in outside]
    return PublishedEncoder(config, tensors, layout, prefix, tuple(other))


def _content(file: Path) -> Any:
    """Everything in the file. Only tensors, plain values and argparse's Namespace are ever built."""
    if not file.is_file():
        raise RequestError(f"{file} does not exist or is no file; choose the checkpoint that you downloaded")
    try:
        # Mapped, so that the optimizer and the teacher of a large checkpoint are never read.
        mapped = zipfile.is_zipfile(file)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle's protocols, no concern of the user
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except MemoryError:
        raise
    except PermissionError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        refused = re.search(
            r"GLOBAL (\S+) was not an allowed global|Trying to load unsupported GLOBAL (\S+)", str(error)
        )
        if refused:
            raise ModelError(
                f"{file} was refused, because it holds more than weights and settings ({refused[1] or refused[2]}) and "
                "could run code; get it from its authors again, or let them save the weights alone"
            ) from error
        raise ModelError(
            f"{file} is damaged or was not written by torch.save; copy or download the checkpoint again"
        ) from error


def _weights(file: Path, content: Any) -> tuple[str, dict[str, Any]]:
    """The layout's key (empty if bare), and what it holds by name."""
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} holds a {type(content).__name__} instead of named weights; choose another file")
    layout = next((key for key in LAYOUTS if isinstance(content.get(key), Mapping)), "")
    state = content[layout] if layout else content
    return layout, {str(name): value for name, value in state.items()}


def _recognize(file: Path, found: Mapping[str, Any]) -> BackboneConfig:
    """PublishedSize, channels, patch and grid from the shapes of the projection and the positions."""
    shape = _shape(found[PROJECTION])
    if len(shape) != 5 or shape[0] not in SIZES or min(shape) < 1:
        known = ", ".join(f"{width} ({size.name})" for width, size in SIZES.items())
        raise ModelError(
            f"{file}: {PROJECTION} is {_shown(found[PROJECTION])}, not [width, channels, I, J, K] with one of the "
            f"known widths {known}; choose another checkpoint"
        )
    width, channels, *patch = shape
    if "pos_embed" not in found:
        raise ModelError(f"{file} holds no pos_embed; choose a checkpoint with its positions")
    positions = _shape(found["pos_embed"])
    side = round((positions[1] - 1) ** (1 / 3)) if len(positions) == 3 and positions[1] > 1 else 0
    if side < 1 or positions != [1, side**3 + 1, width]:
        raise ModelError(
            f"{file}: pos_embed is {_shown(found['pos_embed'])}, not [1, 1 + patches of a cube, {width}]; "
            "choose a checkpoint that was trained on cubes"
        )
    # What pre-training would go on with: the views of the paper, as near as the patch allows, and its decoder.
    base, step = PRESETS["base"], math.lcm(*patch)
    local = max(1, round(side * max(patch) / step)) * step
    wider = max(1, round(local * base.global_view / base.local_view / step)) * step
    size = SIZES[width]
    config = BackboneConfig(
        name=size.name,
        channels=channels,
        patch_size=(patch[0], patch[1], patch[2]),
        width=width,
        depth=size.depth,
        heads=size.heads,
        grid=(side, side, side),
        global_view=wider,
        local_view=local,
        decoder_width=base.decoder_width,
        decoder_depth=base.decoder_depth,
        decoder_heads=base.decoder_heads,
    )
    # Under the preset's own name, pre-training can go on with it.
    same = replace(config, name=base.name)
    return same if replace(same, channels=base.channels) == base else config


def _check(file: Path, found: Mapping[str, Any], expected: Mapping[str, Tensor], strangers: list[str]) -> None:
    """All that is missing, unexpected, of another shape or no weights, in one sentence."""
    parts = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected] + strangers,
        "of another shape": [
            f"{name} {_shown(found[name])} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in found and _shape(found[name]) != list(tensor.shape)
        ],
        "no floating-point tensors": [name for name in expected if name in found and not _usable(found[name])],
    }
    problems = [f"{kind}: {', '.join(names)}" for kind, names in parts.items() if names]
    if problems:
        raise ModelError(
            f"{file} is not the encoder that it looks like ({'; '.join(problems)}); choose another checkpoint"
        )


def _usable(value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return plain and value.is_floating_point() and not value.is_quantized


def _shape(value: Any) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else []


def _shown(value: Any) -> str:
    return str(_shape(value)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _write(out: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """model.json comes last, so that a folder that has it is complete; a failure leaves nothing behind."""
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(out, error) from error
    try:
        write_weights(out / WEIGHTS, tensors)
        write_model(out, "backbone", content)
    except (GLMAEError, KeyboardInterrupt, MemoryError):
        for name in (CARD, WEIGHTS):
            (out / name).unlink(missing_ok=True)
        if made:
            out.rmdir()
        raise
