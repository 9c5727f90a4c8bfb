"""A published data set in the layout that `glmae` reads, without copying it where the disk can link."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from glmae.errors import StorageError
from glmae.events import Events
from glmae.files import storage_error
from glmae.scans.case import Case
from glmae.scans.classes import ClassTable

from .recipes import Recipe


def arrange(recipe: Recipe, folder: Path, out: Path, events: Events | None = None) -> None:
    """Write `out/train` and `out/validation`, each with `images`, `labels` and `labels/classes.json`.

    Args:
        recipe: says which scans are which.
        folder: the set, as it was published; nothing in it is changed.
        out: made here.
        events: told which scans these are.

    Raises:
        RequestError: `folder` does not hold the set.
        StorageError: `out` cannot be written.
    """
    parts = {part: recipe.cases(folder, part, events) for part in ("train", "validation")}
    try:
        for part, (cases, classes) in parts.items():
            _write(out / part, cases, classes)
    except OSError as error:
        raise storage_error(out, error) from error


def _write(folder: Path, cases: list[Case], classes: ClassTable) -> None:
    for case in cases:
        if case.label is None:
            continue
        ending = ".nii.gz" if str(case.label).endswith(".gz") else ".nii"
        _link(case.label, folder / "labels" / f"{case.name}{ending}")
        for number, image in enumerate(case.images):
            source = Path(str(image))
            ending = ".nii.gz" if source.name.endswith(".gz") else ".nii"
            place = f"{case.name}{ending}" if len(case.images) == 1 else f"{case.name}/{number}{ending}"
            _link(source, folder / "images" / place)
    # Every class was drawn in every case: one without voxels is absent there, not unknown.
    content = {
        "classes": [{"value": entry.value, "name": entry.name} for entry in classes],
        "annotated": {case.name: list(classes.values) for case in cases},
    }
    (folder / "labels" / "classes.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise StorageError(f"{target} is there already; choose a new folder")
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
