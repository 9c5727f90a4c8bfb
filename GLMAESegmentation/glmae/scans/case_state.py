"""What tells a case from itself as it was before: its files with size and time of change, and what is said of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ScanError
from .case import Case, DicomSeries
from .classes import ClassTable


def image_state(case: Case) -> list[Any]:
    """Changes with all that the channels of a case depend on; JSON values.

    Raises:
        ScanError: a file of the case is gone.
    """
    return [list(case.missing), *_files(case, case.images)]


def label_state(case: Case, classes: ClassTable) -> list[Any]:
    """Changes with all that the label of a case, in numbers of `classes`, depends on; otherwise as `image_state`."""
    state: list[Any] = [repr(case.region), case.unknown]
    state.append(None if case.annotated is None else sorted(case.annotated))
    state += [None if table is None else table.to_json() for table in (classes, case.classes)]
    return [*state, *_files(case, (case.label, case.region.mask if case.region else None))]


def state_key(state: list[Any]) -> str:
    """A name for a state, fit for files."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:24]


def _files(case: Case, files: Iterable[Path | DicomSeries | None]) -> list[Any]:
    found: list[Any] = []
    try:
        for file in files:
            if file is None:
                continue
            if isinstance(file, DicomSeries):
                inner = list(file.files)
            else:
                inner = sorted(file.iterdir()) if file.is_dir() else [file]
            found += [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in inner]
    except OSError as error:
        raise ScanError(f"{error.filename} of case {case.name} cannot be read; check the path.") from error
    return found
