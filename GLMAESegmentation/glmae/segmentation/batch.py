"""A batch: many scans, one model. One failure does not stop the rest, and what is there is not made again.

The next scan is read while one is in work, and the result of the one before is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..errors import GLMAEError, Stopped, StorageError, TooLargeError
from ..files import last_line, storage_error
from ..job import Job, failure
from ..prefetch import prefetch
from ..scans.case import Case
from ..scans.classes import ClassTable
from ..scans.dicom import DicomSeries
from ..scans.fingerprint import Fingerprint
from ..scans.structures import measure_structures
from .flags import find_flags
from .report import CaseRecord, Description, ModelMark, Report
from .report_page import write_page
from .result import Result, write_result
from .thumbnail import draw_thumbnail

Scan = TypeVar("Scan")


class BatchRun:
    """The scans that one command segments.

    Args:
        out: folder of the results, the report in `report`.
        model: tells its results from those of other models.
        job: asked before every case whether to stop.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        out: Path,
        file_format: str,
        *,
        classes: ClassTable,
        fingerprint: Fingerprint,
        model: ModelMark,
        job: Job,
    ) -> None:
        self._cases, self._out, self._format = cases, out, file_format
        self._classes, self._fingerprint, self._model = classes, fingerprint, model
        self._events, self._job = job.events, job
        self._report = Report(out)
        self._began, self._done, self._flagged = time.monotonic(), 0, 0
        self._failed: list[str] = []
        self._foreign: list[str] = []
        self._writing: list[Future[None]] = []

    def run(self, read: Callable[[Case, bool], Scan], segment_one: Callable[[Case, Scan], Result]) -> list[str]:
        """Segment every scan that has no result yet, and write the report.

        Args:
            read: reads a case; told whether it is while another one is in work, which needs memory, too.
            segment_one: makes the result of a case that was read.

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
        names = {case.name for case in missing}
        coming = prefetch(lambda case: read(case, case is not missing[0]), missing, 1, lambda scan: 1)
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="write") as thread, closing(coming):
                for number, case in enumerate(self._cases):
                    left = self._seconds_left(len(self._cases) - number)
                    self._events.progress("segment", number, len(self._cases), left, case=case.name)
                    if case.name not in names:
                        self._skip(case, self._target(case))
                        continue
                    if self._job.should_stop():
                        raise self._stopped()
                    self._events.case(case.name, "running")
                    began, ahead = time.monotonic(), next(coming)
                    if self._target(case).exists():  # another process has made it meanwhile
                        self._skip(case, self._target(case))
                    else:
                        self._visit(case, began, partial(self._scan, case, ahead, read), segment_one, thread)
            self._events.progress("segment", len(self._cases), len(self._cases), 0.0)
        finally:
            self._write_report()
        self._finish()
        return self._failed

    def _scan(self, case: Case, ahead: Future[Scan], read: Callable[[Case, bool], Scan]) -> Scan:
        """A case as it was read; what failed beside another scan is tried again alone."""
        if ahead.exception() is None:
            return ahead.result()
        try:
            return read(case, False)
        except TooLargeError:
            wait(self._writing)  # perhaps not, when the memory of the one before is free
            return read(case, False)

    def _visit(
        self,
        case: Case,
        began: float,
        scan: Callable[[], Scan],
        segment_one: Callable[[Case, Scan], Result],
        thread: ThreadPoolExecutor,
    ) -> None:
        target = self._target(case)
        try:
            self._check_folder()
            result = segment_one(case, scan())
        except Stopped as error:
            raise self._stopped() from error
        except Exception as error:  # whatever it is, the other scans are not to blame
            self._fail(case, target, began, error)
            return
        wait(self._writing)  # one result at a time is kept for it
        self._writing = [thread.submit(self._keep, case, target, began, result)]

    def _stopped(self) -> Stopped:
        wait(self._writing)
        return Stopped(f"stopped after {self._done} of {len(self._cases)} scans; {self._job.go_on}")

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
        found = describe(result, self._classes, self._fingerprint)
        record = CaseRecord(
            case=case.name,
            state="done",
            file=target.name,
            model=self._model,
            seconds=round(time.monotonic() - began, 2),
            size=result.labels.GetSize(),
            spacing_mm=tuple(round(side, 4) for side in result.labels.GetSpacing()),
            **vars(found),
        )
        self._report.add(record)
        try:
            draw_thumbnail(self._report.thumbnail(target.name), result.images[0], result.labels, self._classes)
        except StorageError:
            raise
        except Exception as error:  # a picture is no reason to lose a result
            self._events.warning(f"{case.name}: its picture is missing ({last_line(error)})", case=case.name)
        write_result(target, result.labels, self._classes, case)  # last: a result makes the case done
        self._done += 1
        self._flagged += bool(found.flags)
        if not found.uncertainty:
            self._events.warning(f"{case.name}: nothing was found in this scan", case=case.name)
        self._events.case(case.name, "done", file=str(target), seconds=record.seconds, **found.to_json())

    def _skip(self, case: Case, target: Path) -> None:
        record, message = self._report.record(target.name), f"{target} is there already"
        if record is None:
            message += "; which model made it is not known"
        elif record.model.sha256 != self._model.sha256:
            self._foreign.append(case.name)
            message += f", made by another model ({record.model.name}); move it away or choose another --out folder"
        known = {} if record is None else Description(record.volumes_ml, record.uncertainty, record.flags).to_json()
        self._events.case(case.name, "skipped", message=message, file=str(target), **known)

    def _fail(self, case: Case, target: Path, began: float, error: Exception) -> None:
        self._failed.append(case.name)
        name, message = failure(error, "scan")
        if not isinstance(error, GLMAEError):
            message = f"{case.name}: {message}"
        record = CaseRecord(
            case=case.name,
            state="failed",
            file=target.name,
            model=self._model,
            seconds=round(time.monotonic() - began, 2),
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
            write_page(self._report, self._report.write(), self._classes)
        except StorageError as error:
            self._events.warning(f"the report is missing: {error}")

    def _finish(self) -> None:
        message = f"{self._done} of {len(self._cases)} scans segmented in {self._out}"
        if self._flagged:
            message += f"; {self._flagged} of them are doubtful, see {self._report.page}"
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


def describe(result: Result, classes: ClassTable, fingerprint: Fingerprint) -> Description:
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
