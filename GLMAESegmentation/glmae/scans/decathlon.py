"""`dataset.json` of the Medical Segmentation Decathlon, which later data sets took over: its classes and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .classes import ClassTable

DATASET_FILE = "dataset.json"

# Name of a case -> its scan and its label.
Pairs = dict[str, tuple[Path, Path]]


def decathlon_classes(content: Mapping[str, Any]) -> ClassTable:
    """The classes that `labels` of a dataset.json names.

    Args:
        content: with `labels` as `{"1": "spleen"}` (Decathlon) or `{"spleen": 1}` (nnU-Net); 0 is background, and
            `ignore` no class (see `unknown_value`).

    Raises:
        ValueError: with the reason, in words.
    """
    entries = [{"value": value, "name": name} for value, name in _labels(content) if value and not _ignored(name)]
    return ClassTable.from_json(sorted(entries, key=lambda entry: entry["value"]))


def unknown_value(content: Mapping[str, Any]) -> int | None:
    """The value of voxels of which nothing is known: nnU-Net's label `ignore`.

    Raises:
        ValueError: see `decathlon_classes`.
    """
    return next((value for value, name in _labels(content) if _ignored(name)), None)


def _labels(content: Mapping[str, Any]) -> list[tuple[int, Any]]:
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise ValueError("`labels` is not an object with one entry a class")
    found = []
    for key, meaning in labels.items():
        value, name = (meaning, key) if isinstance(meaning, int) else (key, meaning)
        try:
            found.append((int(value), name))
        except (TypeError, ValueError) as error:
            raise ValueError(f"`labels` has the entry {key!r}, which is no label value with a name") from error
    return found


def _ignored(name: Any) -> bool:
    return isinstance(name, str) and name.strip().casefold() == "ignore"


def read_decathlon(folder: Path, parts: Sequence[str] = ("training",)) -> tuple[Pairs, ClassTable]:
    """The labelled scans that a dataset.json lists.

    Args:
        folder: with `dataset.json`; the paths in it start here.
        parts: the lists to read; of those after the first only what has its label on disk, because some sets were
            published before the labels of their validation scans.

    Raises:
        RequestError: the file is missing or damaged, or a file that it names is missing.
    """
    path = folder / DATASET_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        classes = decathlon_classes(content)
        files = [(folder / e["image"], folder / e["label"], part) for part in parts for e in content.get(part, [])]
    except OSError as error:
        raise RequestError(f"{path} cannot be read; name the folder of the data set that holds it.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is not Decathlon's dataset.json ({error}); take that of the data set.") from error
    pairs: Pairs = {}
    for image, label, part in files:
        if part != parts[0] and not label.is_file():
            continue
        for file in (image, label):
            if not file.is_file():
                raise RequestError(f"{file} is missing, though {path} lists it; complete the data set.")
        pairs[image.name.split(".nii")[0]] = image, label
    return pairs, classes
