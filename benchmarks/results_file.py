"""The file that a benchmark's rows are kept in: `{"machine": {...}, "rows": [...]}`, always whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glmae.errors import RequestError
from glmae.files import write_json


class ResultsFile:
    """Rows on disk, and which of them are there already.

    Args:
        path: made with the first row.
        key: the fields that tell one row from another.

    Raises:
        RequestError: the file is there and cannot be read.
    """

    def __init__(self, path: Path, key: Sequence[str]) -> None:
        self.path, self._key = path, tuple(key)
        self.machine: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                self.machine, self.rows = content["machine"], content["rows"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RequestError(f"{path} is damaged; move it away, or restore it, and run again") from error

    def __contains__(self, wanted: Mapping[str, Any]) -> bool:
        return any(all(row.get(name) == wanted[name] for name in self._key) for row in self.rows)

    def add(self, row: Mapping[str, Any], device: str, machine: Mapping[str, Any]) -> None:
        """Append a row and write the file. `machine` says what `device` is; each device keeps the latest."""
        self.rows.append(dict(row))
        self.machine[device] = dict(machine)
        write_json(self.path, {"machine": self.machine, "rows": self.rows})
