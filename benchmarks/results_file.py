"""The file that a benchmark's rows are kept in: `{"machine": {...}, "rows": [...]}`, always whole."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from glmae.errors import RequestError
from glmae.files import whole_file


def machine_key(device: str, threads: int) -> str:
    """Under which the machine is described: what ran with another number of threads is not comparable."""
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *lines))


def seeds_and_mean(values: Sequence[float]) -> str:
    """Dice of each seed, then, of several, mean and standard deviation."""
    text = ", ".join(f"{value:.3f}" for value in values)
    return text if len(values) < 2 else f"{text}: {statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def mean_of_sets(rows: Iterable[Mapping[str, Any]]) -> str:
    """The mean Dice of the sets' means, and of how many sets."""
    sets: dict[str, list[float]] = {}
    for row in rows:
        sets.setdefault(row["set"], []).append(row["dice"])
    return f"{statistics.mean(map(statistics.mean, sets.values())):.3f} ({len(sets)} sets)" if sets else ""


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
        self._lock = Lock()
        self._read()

    def __contains__(self, wanted: Mapping[str, Any]) -> bool:
        self._read()
        return any(all(row.get(name) == wanted[name] for name in self._key) for row in self.rows)

    def add(self, row: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        """Append a row and write the file. `machine` says what the row ran on; each `machine_key` keeps the latest."""
        with self._lock:
            self._read()
            self.rows.append(dict(row))
            self.machine[machine_key(row["device"], row["threads"])] = dict(machine)
            self._write()

    def _write(self) -> None:
        """A row is a line: that keeps file and differences small."""
        rows = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in self.rows)
        text = f'{{"machine": {json.dumps(self.machine)}, "rows": [\n{rows}\n]}}\n'
        with whole_file(self.path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")

    def _read(self) -> None:
        """Take over what is on disk: other processes may add rows, too."""
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.machine, self.rows = content["machine"], content["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(f"{self.path} is damaged; move it away, or restore it, and run again") from error
