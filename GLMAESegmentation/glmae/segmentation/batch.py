"""A batch: many scans, one model. One failure does not stop the rest, and what is there is not made again.

Results are written in a thread, while the next scan is in work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ..errors import GLMAEError, Stopped, StorageError, TooLargeError
from ..events import Events
from ..files import last_line, storage_error
from ..scans.cases import Case
from ..scans.classes import ClassTable
from ..scans.dicom import DicomSeries
from ..scans.fingerprint import Fingerprint
from ..scans.structures import measure_structures
from ..scans.written_image import write_image
from .contact_sheet import draw_thumbnail, write_contact_sheets
from .flags import find_flags
from .report import CaseRecord, ModelMark, Report
from .result import Result, write_result


class Batch:
    """The scans that one command segments.

    Args:
        cases: the scans.
        out: folder of the results, the report in `report` and the uncertainty in `uncertainty`.
        file_format: one of `result.FORMATS`.
        classes: of the model.
        fingerprint: of the model's training cases, if known.
        model: tells its results from those of other models.
        events: where to report to.
        should_stop: asked before every case.

    Attributes:
        following: the case that comes after the one in work, if one does.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        out: Path,
        file_format: str,
        *,
        classes: ClassTable,
        fingerprint: Fingerprint | None,
        model: ModelMark,
        events: Events,
        should_stop: Callable[[], bool],
    ) -> None:
        self._cases, self._out, self._format = cases, out, file_format
        self._classes, self._fingerprint, self._model = classes, fingerprint, model
        self._events, self._should_stop = events, should_stop
        self._report = Report(out)
        self._began, self._done, self._flagged = time.monotonic(), 0, 0
        self._failed: list[str] = []
        self._foreign: list[str] = []
        self.following: Case | None = None
        self._writing: list[Future[None]] = []

    def run(self, segment_one: Callable[[Case], Result]) -> list[str]:
        """Segment every scan that has no result yet, and write the report.

        Args:
            segment_one: makes the result of a case.

        Returns:
            The names of the cases that failed here.

        Raises:
            Stopped: the user stopped. What was finished stays, and is in the report.
            StorageError: the folder of the results cannot be made.
        """
        try:
            self._report.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self._out, error) from error
        missing = [case for case in self._cases if not self._target(case).exists()]
        following = [*missing[1:], None]
        turn = {case.name: number for number, case in enumerate(missing)}
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="write") as thread:
                for number, case in enumerate(self._cases):
                    left = self._seconds_left(len(self._cases) - number)
                    self._events.progress("segment", number, len(self._cases), left, case=case.name)
                    if case.name in turn and not self._target(case).exists():
                        self.following = following[turn[case.name]]
                        self._visit(case, segment_one, thread)
                    else:
                        self._skip(case, self._target(case))
            self._events.progress("segment", len(self._cases), len(self._cases), 0.0)
        finally:
            self._write_report()
        self._finish()
        return self._failed

    def _visit(self, case: Case, segment_one: Callable[[Case], Result], thread: ThreadPoolExecutor) -> None:
        if self._should_stop():
            raise self._stopped()
        target, began = self._target(case), time.monotonic()
        try:
            self._check_folder()
            self._events.case(case.name, "running")
            try:
                result = segment_one(case)
            except TooLargeError:
                # Perhaps not, when the memory of the one before is free.
                wait(self._writing)
                result = segment_one(case)
        except Stopped as error:
            raise self._stopped() from error
        except Exception as error:  # whatever it is, the other scans are not to blame
            self._fail(case, target, began, error)
            return
        wait(self._writing)  # one result at a time is kept for it
        self._writing = [thread.submit(self._keep, case, target, began, result)]

    def _stopped(self) -> Stopped:
        wait(self._writing)
        return Stopped(f"stopped after {self._done} of {len(self._cases)} scans; run the same command again to go on")

    def _target(self, case: Case) -> Path:
        return self._out / f"{case.name}.{self._format}"

    def _keep(self, case: Case, target: Path, began: float, result: Result) -> None:
        """Write a result, and what is to be told of it."""
        try:
            self._write(case, target, began, result)
        except Exception as error:
            self._fail(case, target, began, error)

    def _write(self, case: Case, target: Path, began: float, result: Result) -> None:
        self._check_folder()
        axes = None if self._fingerprint is None else self._fingerprint.axes
        structures = measure_structures(result.labels, result.images, self._classes.values, axes)
        flags = find_flags(
            result.images, structures, self._classes, self._fingerprint, result.uncertainty, result.left_out
        )
        names = {entry.value: entry.name for entry in self._classes}
        ml = {value: found.volume / 1000 for value, found in structures.items()}
        volumes = {name: ml.get(value, 0.0) for value, name in names.items()}
        record = CaseRecord(
            case=case.name,
            state="done",
            file=target.name,
            model=self._model,
            seconds=time.monotonic() - began,
            size=result.labels.GetSize(),
            spacing=result.labels.GetSpacing(),
            volumes=volumes,
            uncertainty={names[value]: share for value, share in result.uncertainty.items()},
            flags=tuple(flags),
        )
        if result.uncertainty_map is not None:
            write_image(self._out / "uncertainty" / f"{case.name}.nii.gz", result.uncertainty_map)
        self._report.add(record)
        try:
            draw_thumbnail(self._report.thumbnail(target.name), result.images[0], result.labels, self._classes)
        except StorageError:
            raise
        except Exception as error:  # a picture is no reason to lose a result
            self._events.warning(f"{case.name}: its picture is missing ({last_line(error)})", case=case.name)
        write_result(target, result.labels, self._classes, case)  # last: a result makes the case done
        self._done += 1
        self._flagged += bool(flags)
        self._tell(case, target, record)

    def _tell(self, case: Case, target: Path, record: CaseRecord) -> None:
        if not any(record.volumes.values()):
            self._events.warning(f"{case.name}: nothing was found in this scan", case=case.name)
        self._events.case(
            case.name,
            "done",
            file=str(target),
            seconds=round(record.seconds, 2),
            **_measured(record),
        )

    def _skip(self, case: Case, target: Path) -> None:
        record, message = self._report.record(target.name), f"{target} is there already"
        if record is None:
            message += "; which model made it is not known"
        elif record.model.sha256 != self._model.sha256:
            self._foreign.append(case.name)
            message += f", made by another model ({record.model.name}); move it away or choose another --out folder"
        measured = {} if record is None else _measured(record)
        self._events.case(case.name, "skipped", message=message, file=str(target), **measured)

    def _fail(self, case: Case, target: Path, began: float, error: Exception) -> None:
        self._failed.append(case.name)
        name, message = type(error).__name__, str(error)
        if isinstance(error, MemoryError):
            message = f"{case.name}: there is not enough memory for this scan; crop it or use a coarser one"
        elif not isinstance(error, GLMAEError):
            message = f"{case.name}: unforeseen {name} ({last_line(error)}); please report it"
        record = CaseRecord(
            case=case.name,
            state="failed",
            file=target.name,
            model=self._model,
            seconds=time.monotonic() - began,
            error=name,
            message=self._without_folders(message, case),
        )
        try:
            if self._out.is_dir():
                self._report.add(record)
        except StorageError:
            pass  # a disk that takes no result may take no record either; the event tells
        self._events.case(case.name, "failed", name=name, message=message)

    def _without_folders(self, message: str, case: Case) -> str:
        """The report names files; where they lie concerns nobody to whom it is passed on."""
        for image in case.images:
            place = image.folder if isinstance(image, DicomSeries) else image
            message = message.replace(str(place), place.name)
        return message.replace(str(self._out), self._out.name)

    def _check_folder(self) -> None:
        if not self._out.is_dir():
            raise StorageError(f"{self._out} has vanished; connect its drive again and repeat the command.")

    def _write_report(self) -> None:
        if not self._out.is_dir():
            return
        try:
            records = self._report.write()
            try:
                write_contact_sheets(self._report, records, self._classes)
            except StorageError:
                raise
            except Exception as error:  # nor to end the command
                self._events.warning(f"the contact sheet is missing ({last_line(error)})")
        except StorageError as error:
            self._events.warning(f"the report is missing: {error}")

    def _finish(self) -> None:
        message = f"{self._done} of {len(self._cases)} scans segmented in {self._out}"
        if self._flagged:
            message += f"; {self._flagged} of them are doubtful, see {self._report.csv}"
        if self._foreign:
            message += f"; results of another model were kept: {', '.join(self._foreign)}"
        if self._failed:
            message += f"; failed: {', '.join(self._failed)}"
        self._events.finished(
            "segment",
            done=self._done,
            failed=self._failed,
            flagged=self._flagged,
            other_model=self._foreign,
            out=str(self._out),
            report=str(self._report.json),
            message=message + ".",
        )

    def _seconds_left(self, left: int) -> float | None:
        return (time.monotonic() - self._began) / self._done * left if self._done else None


def _measured(record: CaseRecord) -> dict[str, Any]:
    """What an event tells of a result, a finished one or one that was there already."""
    return {
        "volumes_ml": {name: round(ml, 4) for name, ml in record.volumes.items()},
        "uncertainty": {name: round(share, 4) for name, share in record.uncertainty.items()},
        "flags": [flag.to_json() for flag in record.flags],
    }
