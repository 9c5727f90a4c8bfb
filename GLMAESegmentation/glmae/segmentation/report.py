"""The report of a batch: what was found in each case, by which model, and what is doubtful; as CSV and JSON.

It is put together from records of the results in `OUT/report/cases`, each written before the result itself: processes
may share a batch, and an interrupted one loses nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import sha256, whole_file, write_json
from ..json_record import JsonRecord
from ..model_folder import WEIGHTS
from ..scans.classes import ClassTable
from ..scans.fingerprint import Fingerprint
from ..scans.structures import measure_structures
from .flags import Flag, find_flags
from .result import Result


@dataclass(frozen=True)
class ModelMark(JsonRecord):
    """Tells one model from another."""

    name: str
    sha256: str

    @staticmethod
    def of(folder: Path) -> ModelMark:
        """Of a model folder that was checked."""
        return ModelMark(folder.resolve().name, sha256(folder / WEIGHTS))


@dataclass(frozen=True)
class Description(JsonRecord):
    """What is told of a result, in events, too.

    Attributes:
        volumes_ml: of each class, 0 where it was not found.
        uncertainty: mean of 1 - (largest probability) over each class that was found.
        flags: doubts.
    """

    volumes_ml: dict[str, float]
    uncertainty: dict[str, float]
    flags: tuple[Flag, ...]

    @staticmethod
    def of(result: Result, classes: ClassTable, fingerprint: Fingerprint) -> Description:
        """Look at a result, whose channels were read, beside the training cases."""
        structures = measure_structures(result.labels, result.images, classes.values, fingerprint.axes)
        flags = find_flags(result.images, structures, classes, fingerprint, result.uncertainty, result.left_out)
        names = {entry.value: entry.name for entry in classes}
        ml = {value: found.volume / 1000 for value, found in structures.items()}
        return Description(
            {name: round(ml.get(value, 0.0), 4) for value, name in names.items()},
            {names[value]: round(share, 4) for value, share in result.uncertainty.items()},
            tuple(flags),
        )


@dataclass(frozen=True, kw_only=True)
class CaseRecord(JsonRecord):
    """What is known of one case.

    Attributes:
        state: "done" or "failed".
        file: name of the result in the output folder; also of one that could not be made.
        model: that made it.
        seconds: from its turn to its file.
        size: voxels along I, J, K; () if the scan could not be read.
        volumes_ml: see `Description`, as of the next two.
        uncertainty: of the classes that were found.
        flags: what is doubtful.
        error: name of the error where it failed.
        message: the error in one sentence.
    """

    case: str
    state: str
    file: str
    model: ModelMark
    seconds: float
    size: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    volumes_ml: dict[str, float] = field(default_factory=dict)
    uncertainty: dict[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    error: str | None = None
    message: str | None = None


class Report:
    """The folder `OUT/report`."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = Path(out), Path(out) / "report"
        self.csv, self.json = self.folder / "report.csv", self.folder / "report.json"
        self.page = self.folder / "index.html"

    def thumbnail(self, file: str) -> Path:
        """The picture of a result."""
        return self.folder / "cases" / f"{file}.png"

    def add(self, record: CaseRecord) -> None:
        """Keep what is known of a case.

        Raises:
            StorageError: it cannot be written.
        """
        write_json(self._path(record.file), record.to_json())

    def record(self, file: str) -> CaseRecord | None:
        """What is known of a result, if there is a record of it."""
        return _read(self._path(file))

    def records(self) -> list[CaseRecord]:
        """All cases that failed, and all whose result is there, in the order of their names."""
        # Not those with a point: what a process that was killed was writing.
        found = [_read(path) for path in sorted((self.folder / "cases").glob("[!.]*.json"))]
        records = [entry for entry in found if entry is not None]
        return [entry for entry in records if entry.state == "failed" or (self.out / entry.file).exists()]

    def write(self) -> list[CaseRecord]:
        """Put report.csv and report.json together; gives the records in it.

        Another process may add records meanwhile, and write a report between the reading and the writing here, which
        would then hide what is newer: so it is written again until it holds all there is.

        Raises:
            StorageError: they cannot be written.
        """
        written = None
        while (records := self.records()) != written:
            write_json(self.json, {"cases": [record.to_json() for record in records]})
            with whole_file(self.csv) as temporary:
                # With the mark at its start Excel takes the file for UTF-8.
                temporary.write_text(_table(records), encoding="utf-8-sig", newline="")
            written = records
        return records

    def _path(self, file: str) -> Path:
        return self.folder / "cases" / f"{file}.json"


def _table(records: Sequence[CaseRecord]) -> str:
    """One row a case."""
    names = list(dict.fromkeys(name for record in records for name in record.volumes_ml))
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(
        ["case", "state", "flags", *(f"{name} (ml)" for name in names), "doubts", "seconds", "file", "model", "message"]
    )
    for record in records:
        rows.writerow(
            [
                record.case,
                record.state,
                len(record.flags),
                *(f"{record.volumes_ml[name]:.4g}" if name in record.volumes_ml else "" for name in names),
                "; ".join(flag.message for flag in record.flags),
                f"{record.seconds:.1f}",
                record.file if record.state == "done" else "",
                record.model.name,
                record.message or "",
            ]
        )
    return text.getvalue()


def _read(path: Path) -> CaseRecord | None:
    try:
        return CaseRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
