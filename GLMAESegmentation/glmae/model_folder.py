"""A trained model or backbone as one portable folder: `model.json` and `weights.safetensors`. Needs no torch."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__
from .errors import ModelError
from .files import write_json
from .scans.classes import MOST_CLASSES, ClassTable

CARD, WEIGHTS = "model.json", "weights.safetensors"
FORMAT_VERSION = 1
# Folders come from strangers: no real card is larger, and safetensors itself allows no larger header.
LARGEST_CARD, LARGEST_HEADER = 16_000_000, 100_000_000
IN_WORDS = {"segmentation": "segmentation model", "backbone": "backbone"}
# What a card must hold beside `format` and `kind`, to be of use.
REQUIRED = {"segmentation": ("classes", "preprocessing", "backbone"), "backbone": ("backbone",)}


@dataclass(frozen=True)
class ModelCard:
    """The content of a model.json.

    Attributes:
        content: the whole of it: `classes`, `preprocessing`, `backbone`, `schedule`, `seed`, `versions`, `scores`, ...
    """

    folder: Path
    kind: str
    content: Mapping[str, Any] = field(repr=False)

    @property
    def classes(self) -> ClassTable:
        """The structures that a segmentation model finds; a backbone has none."""
        return ClassTable.from_json(self.content["classes"]) if "classes" in self.content else ClassTable(())

    @property
    def weights(self) -> Path:
        """The file with the weights."""
        return self.folder / WEIGHTS


def read_model(folder: Path, kind: str | None = None) -> ModelCard:
    """Read and check a model folder, without the weights themselves.

    Args:
        kind: "segmentation" or "backbone" if only that is of use; None for both.

    Raises:
        ModelError: it is missing, damaged, incomplete, of another kind, or written by a newer version.
    """
    folder = Path(folder)
    path = folder / CARD
    if not folder.is_dir():
        raise ModelError(f"{folder} does not exist; choose a model folder (it holds {CARD} and {WEIGHTS}).")
    if not path.exists():
        raise ModelError(f"{folder} is no model folder, {CARD} is missing; choose the folder that holds it.")
    _check_file(path)
    try:
        if path.stat().st_size > LARGEST_CARD:
            raise ValueError
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged, it is not valid JSON; copy the model folder again.") from error
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise ModelError(f"{path} is not the card of a GLMAE model; choose a folder made by glmae.")
    version = content["format"]
    if version > FORMAT_VERSION:
        raise ModelError(f"{folder} was written by a newer version of GLMAE (format {version}); update GLMAE.")
    found = content.get("kind")
    if not isinstance(found, str) or found not in IN_WORDS:
        raise ModelError(f"{path} is damaged, it does not say what kind of model it is; copy the model folder again.")
    if kind is not None and found != kind:
        raise ModelError(f"{folder} is a {IN_WORDS[found]}, not a {IN_WORDS[kind]}; choose another folder.")
    missing = [key for key in REQUIRED[found] if key not in content]
    if missing:
        raise ModelError(f"{path} is damaged, `{missing[0]}` is missing; copy the model folder again.")
    if "classes" in content:
        try:
            if isinstance(content["classes"], list) and len(content["classes"]) > MOST_CLASSES:
                raise ValueError(f"it has more than {MOST_CLASSES} classes")
            ClassTable.from_json(content["classes"])
        except ValueError as error:
            raise ModelError(f"{path} is damaged, {error}; copy the model folder again.") from error
    _check_weights(folder / WEIGHTS)
    return ModelCard(folder, found, content)


def write_model(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write model.json, whole or not at all; after the weights, because a folder with a model.json is complete.

    Args:
        content: everything but the format version and the kind; training cases by alias and hash only.

    Raises:
        StorageError: it cannot be written.
    """
    versions = {"glmae": __version__, "python": platform.python_version(), **content.get("versions", {})}
    write_json(Path(folder) / CARD, {"format": FORMAT_VERSION, "kind": kind, **content, "versions": versions})


def _check_file(path: Path) -> None:
    """Only real files of the folder itself: a link may lead to a device that never ends, or to a private file."""
    if path.is_symlink() or not path.is_file():
        raise ModelError(f"{path} is a link or no file; copy the model folder again, with the files themselves.")


def _check_weights(path: Path) -> None:
    """A safetensors file says at its start how long it is: an incomplete copy is found without reading all of it."""
    if not path.exists():
        raise ModelError(f"{path} is missing; copy the whole model folder again.")
    _check_file(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, LARGEST_HEADER):
                raise ValueError
            header = json.loads(file.read(length).decode("utf-8"))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0) == size
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        whole = False
    if not whole:
        raise ModelError(f"{path} is damaged or incomplete; copy the model folder again.")
