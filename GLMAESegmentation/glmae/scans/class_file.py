"""`classes.json`: names for label values, and what was drawn in which case; or the `dataset.json` of a Decathlon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .classes import ClassTable
from .region import Region

# Its name in a folder of labels.
CLASS_FILE = "classes.json"


@dataclass(frozen=True)
class ClassFile:
    """The content of a class file.

    Attributes:
        classes: the classes, in the order of the file; None where it leaves them to the labels.
        annotated: for some cases, the values of the classes that were drawn there.
        region: for some cases, the part of the scan that was labeled.
        unknown: the value of voxels of which nothing is known.
    """

    classes: ClassTable | None = None
    annotated: dict[str, frozenset[int]] = field(default_factory=dict)
    region: dict[str, Region] = field(default_factory=dict)
    unknown: int | None = None

    @property
    def masks(self) -> set[Path]:
        """The files that are masks of regions, resolved; they are no labels."""
        return {region.mask.resolve() for region in self.region.values() if region.mask}


def read_class_file(path: Path) -> ClassFile:
    """Read a class file; its form is in docs (`{"classes": [...], "annotated": {...}, "region": {...}}`).

    Without `classes` it says of some cases which part was labeled, and the labels name the classes.

    A dataset.json of Decathlon or nnU-Net is read, too: its `labels` name the classes, `ignore` the unknown part.

    Raises:
        RequestError: the file is missing or not as it should be; the message says where.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RequestError(f"{path} does not exist; give an existing class file or none.") from error
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not valid JSON ({error}); correct it or remove it.") from error
    try:
        return _parse(content, path.parent)
    except ValueError as error:
        raise RequestError(f"{path} is not a class file: {error}; correct it.") from error


def _parse(content: Any, folder: Path) -> ClassFile:
    if not isinstance(content, dict):
        raise ValueError("it must be an object with the list `classes`")
    if "labels" in content and "classes" not in content:
        classes, ignored = decathlon_classes(content)
        return ClassFile(classes, unknown=ignored)
    # A misspelled key would silently change what is trained on.
    unknown = sorted(set(content) - {"classes", "annotated", "region"})
    if unknown:
        raise ValueError(f"the key {unknown[0]!r} is not known (known: classes, annotated, region)")
    named = "classes" in content or "region" not in content or "annotated" in content
    classes = ClassTable.from_json(content.get("classes")) if named else ClassTable(())
    annotated = {}
    for case, values in _object(content, "annotated").items():
        if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
            raise ValueError(f"`annotated` of {case!r} is not a list of class values")
        for value in values:
            if value not in classes.values:
                raise ValueError(f"`annotated` of {case!r} names the value {value}, which is not in `classes`")
        annotated[case] = frozenset(values)
    region = {case: Region.from_json(entry, case, folder) for case, entry in _object(content, "region").items()}
    return ClassFile(classes if named else None, annotated, region)


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"`{key}` is not an object with one entry a case")
    return found


def decathlon_classes(content: Mapping[str, Any]) -> tuple[ClassTable, int | None]:
    """The classes of a dataset.json, and the value of voxels of which nothing is known.

    Args:
        content: with `labels` as `{"1": "spleen"}` (Decathlon) or `{"spleen": 1}` (nnU-Net); 0 is background, and
            `ignore` what is not known.

    Raises:
        ValueError: with the reason, in words.
    """
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise ValueError("`labels` is not an object with one entry a class")
    entries, ignored = [], None
    for key, meaning in labels.items():
        value, name = (meaning, key) if isinstance(meaning, int) else (key, meaning)
        try:
            value = int(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`labels` has the entry {key!r}, which is no label value with a name") from error
        if isinstance(name, str) and name.strip().casefold() == "ignore":
            ignored = value
        elif value:
            entries.append({"value": value, "name": name})
    return ClassTable.from_json(sorted(entries, key=lambda entry: entry["value"])), ignored
