"""Jobs on disk, outside of any scene, so that they outlive a crash: one folder a job.

JOBS/20260131-101500-1/job.json     what was asked, and how far it came
JOBS/20260131-101500-1/alive        touched by the engine's process while it runs
JOBS/20260131-101500-1/log.txt      every event and every other line of that process
JOBS/20260131-101500-1/cases/       see `case_folder`
JOBS/20260131-101500-1/start/       the model that a training goes on from
JOBS/20260131-101500-1/out/         the model or the segmentations
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from glmae.errors import StorageError
from glmae.files import storage_error, write_json

from ..engine.child import HEARTBEAT_SECONDS

FORMAT = 1
TRAIN, SEGMENT, CHECK, SUGGEST = "train", "segment", "check", "suggest"
PREPARING, RUNNING, STOPPED, FAILED, FINISHED = "preparing", "running", "stopped", "failed", "finished"
_DEAD_AFTER = 5 * HEARTBEAT_SECONDS
# Removed without a question is only what is older: another Slicer may stand still while it reads a large study.
_FORGOTTEN_AFTER = 1800.0
_LONGEST_LOG = 2_000_000


@dataclass(frozen=True)
class JobRecord:
    """The content of a job.json.

    Attributes:
        kind: TRAIN, SEGMENT, CHECK or SUGGEST.
        title: for the user, when the job is offered for resuming.
        words: the engine's command line, without `--events`; empty before the cases are written.
        state: PREPARING, RUNNING, STOPPED, FAILED or FINISHED.
        details: what the panel needs to know again: the model's name, for one.
    """

    kind: str
    title: str
    words: tuple[str, ...] = ()
    state: str = PREPARING
    details: Mapping[str, Any] = field(default_factory=dict)


class JobFolder:
    """One job's folder. Opened by `create` or found by `all_jobs`.

    Attributes:
        cases: where the exported cases are.
        start: a copy of the model that a training goes on from, which may be renamed or deleted meanwhile.
        out: where the engine writes to.
        alive: the file that is touched while the engine's process runs.
    """

    def __init__(self, folder: Path, record: JobRecord) -> None:
        self.folder, self.record = Path(folder), record
        self.cases, self.start, self.out = (self.folder / name for name in ("cases", "start", "out"))
        self.alive, self._log = self.folder / "alive", self.folder / "log.txt"
        self._logged = self._log.stat().st_size if self._log.exists() else 0

    @classmethod
    def create(cls, jobs: Path, record: JobRecord) -> JobFolder:
        """A new folder in `jobs` for `record`.

        Raises:
            StorageError: it cannot be made.
        """
        stem = time.strftime("%Y%m%d-%H%M%S")
        try:
            Path(jobs).mkdir(parents=True, exist_ok=True)
            for number in range(1, 1000):
                folder = Path(jobs) / f"{stem}-{number}"
                try:
                    folder.mkdir()
                except FileExistsError:
                    continue
                job = cls(folder, record)
                job.alive.touch()
                job.save()
                return job
        except OSError as error:
            raise storage_error(Path(jobs), error) from error
        raise StorageError(f"{jobs} holds too many jobs of this second; try again.")

    @property
    def abandoned(self) -> bool:
        """Whether no process has touched it for a while."""
        return self._age > _DEAD_AFTER

    @property
    def forgotten(self) -> bool:
        """Whether that is so long ago that nobody goes on with it."""
        return self._age > _FORGOTTEN_AFTER

    @property
    def _age(self) -> float:
        try:
            return time.time() - self.alive.stat().st_mtime
        except OSError:
            return float("inf")

    @property
    def resumable(self) -> bool:
        """Whether the engine can go on: it was asked to begin and did not end by itself. Others are begun anew."""
        if not self.record.words or self.record.kind not in (TRAIN, SEGMENT):
            return False
        # One that says that it is under way while nothing keeps it alive has crashed, or Slicer has.
        return self.record.state in (STOPPED, FAILED) or (self.record.state != FINISHED and self.abandoned)

    def update(self, **changes: Any) -> None:
        """Change fields of the record and save it."""
        self.record = replace(self.record, **changes)
        self.save()

    def save(self) -> None:
        """Write job.json.

        Raises:
            StorageError: it cannot be written.
        """
        write_json(self.folder / "job.json", {"format": FORMAT, **asdict(self.record)})

    def log(self, text: str) -> None:
        """Append lines to the log; beyond two million characters they are dropped."""
        if self._logged > _LONGEST_LOG:
            return
        try:
            with self._log.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text if text.endswith("\n") else text + "\n")
        except OSError:
            return  # a full disk shows itself in the job
        self._logged += len(text)

    def read_log(self) -> str:
        """The whole log; "" when there is none."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def remove(self) -> None:
        """Remove all of the job."""
        shutil.rmtree(self.folder, ignore_errors=True)


def all_jobs(jobs: Path) -> Iterator[JobFolder]:
    """The jobs in a folder, the oldest first; what cannot be read is passed over."""
    for path in sorted(Path(jobs).glob("*/job.json")):
        if (job := job_in(path.parent)) is not None:
            yield job


def job_in(folder: Path) -> JobFolder | None:
    """The job in a folder as it is now; None where there is none, or it cannot be read."""
    try:
        content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            return None
        record = JobRecord(**{**content, "words": tuple(content["words"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return JobFolder(folder, record)


def remove_leftovers(jobs: Path) -> None:
    """Remove what is left of removed jobs: on Windows the files that a process still had open when it was killed."""
    for folder in Path(jobs).glob("*/"):
        with suppress(OSError):
            old = time.time() - folder.stat().st_mtime > _DEAD_AFTER
            if old and folder.is_dir() and not (folder / "job.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
