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
from typing import Any, TypeVar

import torch

from ..devices import is_out_of_memory, release
from ..errors import GLMAEError, RequestError, Stopped, StorageError, TooLargeError
from ..events import Events, recorded, silent
from ..files import last_line, storage_error
from ..job import Job, begin, failure
from ..prefetch import prefetch
from ..scans.case import Case
from ..scans.cases import find_images
from ..scans.classes import ClassTable
from ..scans.dicom import DicomSeries
from ..scans.fingerprint import Fingerprint
from .dicom_seg import check_installed, check_source
from .inference import PreparedScan, read_scan, segment_case
from .model import load_model
from .report import CaseRecord, Description, ModelMark, Report
from .report_page import write_page
from .result import FORMATS, Result, write_result
from .thumbnail import draw_thumbnail

Scan = TypeVar("Scan")


def segment(
    *,
    model: Path,
    images: Sequence[Path],
    out: Path,
    file_format: str = "seg.nrrd",
    part: tuple[int, int] = (1, 1),
    device: str = "auto",
    events: Events | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Segment scans; the same as `glmae segment`. A result that is there already is kept, its scan passed over.

    Args:
        model: see `glmae.segment`, as of the other arguments that are not listed.
        out: folder for `NAME.seg.nrrd`, `NAME.nii.gz` or `NAME.dcm` and for `report/`; made if needed.
        part: (i, n): every n-th of the scans, from the i-th on (from 1), so that n processes share them.
        should_stop: asked between windows; True stops, finished results stay.

    Returns:
        The names of the cases that failed; each was reported as an event.

    Raises:
        RequestError: no scans were found, or results cannot go to `out`.
        ModelError: the model folder cannot be used.
        Stopped: the user stopped.
    """
    events = events or silent()
    if file_format not in FORMATS:
        raise RequestError(f"there is no format '{file_format}'; choose one of {', '.join(FORMATS)}")
    if file_format == "dcm":
        check_installed()
    number, count = part
    heard: list[dict[str, Any]] = []
    cases = find_images(list(images), events=recorded(heard))
    # Results that lie beside the scans are no scan with many channels.
    cases = [case for case in cases if not _lies_in(case, Path(out))][number - 1 :: count]
    _check_out(Path(out), cases, file_format)
    opened = load_model(Path(model), torch.device("cpu"))
    words = {"cases": len(cases), "classes": list(opened.classes.names)}
    job = begin("segment", device, events, should_stop, "run the same command again to go on", **words)
    for event in heard:
        events.emit(**event)
    if count > 1:
        events.info(f"Part {number} of {count} of the scans: {len(cases)}.")
    batch = BatchRun(
        cases,
        Path(out),
        file_format,
        classes=opened.classes,
        fingerprint=opened.fingerprint,
        model=ModelMark.of(Path(model)),
        job=job,
    )

    def read(case: Case, beside: bool) -> PreparedScan:
        if file_format == "dcm":
            check_source(case, opened.classes)
        return read_scan(opened, case, events, beside)

    def segment_one(case: Case, scan: PreparedScan) -> Result:
        for device, windows, remark in _attempts(job.device):
            if remark:
                events.warning(f"{case.name} does not fit into the GPU's memory; {remark}.", case=case.name)
            opened.network.to(device)
            try:
                return segment_case(opened, case, device, events, should_stop, scan=scan, windows=windows)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            release(device)
        raise MemoryError

    return batch.run(read, segment_one)


def _attempts(device: torch.device) -> list[tuple[torch.device, int | None, str]]:
    """Where, with how many windows at a time, and what is said: a GPU whose memory is not enough steps down."""
    if device.type == "cpu":
        return [(device, None, "")]
    cpu = torch.device("cpu")
    return [(device, None, ""), (device, 1, "now one window at a time"), (cpu, None, "the CPU segments it")]


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
                        self._skip(case)
                        continue
                    if self._job.should_stop():
                        raise self._stopped()
                    self._events.case(case.name, "running")
                    began, ahead = time.monotonic(), next(coming)
                    if self._target(case).exists():  # another process has made it meanwhile
                        self._skip(case)
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
        try:
            self._check_folder()
            result = segment_one(case, scan())
        except Stopped as error:
            raise self._stopped() from error
        except Exception as error:  # whatever it is, the other scans are not to blame
            self._fail(case, began, error)
            return
        wait(self._writing)  # one result at a time is kept for it
        self._writing = [thread.submit(self._keep, case, began, result)]

    def _stopped(self) -> Stopped:
        wait(self._writing)
        return Stopped(f"stopped after {self._done} of {len(self._cases)} scans; {self._job.go_on}")

    def _target(self, case: Case) -> Path:
        return self._out / f"{case.name}.{self._format}"

    def _keep(self, case: Case, began: float, result: Result) -> None:
        """Write a result, and what is to be told of it."""
        try:
            self._write(case, began, result)
        except Exception as error:
            self._fail(case, began, error)

    def _write(self, case: Case, began: float, result: Result) -> None:
        self._check_folder()
        target = self._target(case)
        found = Description.of(result, self._classes, self._fingerprint)
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

    def _skip(self, case: Case) -> None:
        target = self._target(case)
        record, message = self._report.record(target.name), f"{target} is there already"
        if record is None:
            message += "; which model made it is not known"
        elif record.model.sha256 != self._model.sha256:
            self._foreign.append(case.name)
            message += f", made by another model ({record.model.name}); move it away or choose another --out folder"
        known = {} if record is None else Description(record.volumes_ml, record.uncertainty, record.flags).to_json()
        self._events.case(case.name, "skipped", message=message, file=str(target), **known)

    def _fail(self, case: Case, began: float, error: Exception) -> None:
        self._failed.append(case.name)
        name, message = failure(error, "scan")
        if not isinstance(error, GLMAEError):
            message = f"{case.name}: {message}"
        record = CaseRecord(
            case=case.name,
            state="failed",
            file=self._target(case).name,
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


def _lies_in(case: Case, out: Path) -> bool:
    """Whether a case is a folder of channels, and that folder is `out`."""
    parents = {image.parent.resolve() for image in case.images if isinstance(image, Path)}
    return case.name == out.name and parents == {out.resolve()}


def _check_out(out: Path, cases: Sequence[Case], file_format: str) -> None:
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file; choose a folder with --out")
    for case in cases:
        target = out / f"{case.name}.{file_format}"
        sources = [
            file for image in case.images for file in (image.files if isinstance(image, DicomSeries) else [image])
        ]
        if target.exists() and any(target.samefile(file) for file in sources):
            raise RequestError(f"the result of {target} would have the name of the scan; choose another --out folder")
