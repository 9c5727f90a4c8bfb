"""The jobs on disk that were stopped or cut off, and what can still be done with the newest of them."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from glmae.errors import GLMAEError, RequestError

from ..messages import say
from ..models.library import ModelLibrary
from .folder import FINISHED, TRAIN, JobFolder, all_jobs, job_in, remove_leftovers
from .training import can_be_finished, keep_model

# How often the folder of jobs is looked through.
_SECONDS = 5.0


class InterruptedJobs:
    """The jobs that can be gone on with, the newest first."""

    def __init__(self, jobs: Path, library: ModelLibrary) -> None:
        self._folder, self._library = jobs, library
        self._jobs: list[JobFolder] = []
        self._looked = float("-inf")

    @property
    def titles(self) -> list[str]:
        """What they were about."""
        return [job.record.title for job in self._jobs]

    @property
    def learned(self) -> bool:
        """Whether the newest has learned something that a model can be made of."""
        return bool(self._jobs) and can_be_finished(self._jobs[0])

    @property
    def newest(self) -> JobFolder:
        """The one that Continue goes on with; there must be one."""
        return self._jobs[0]

    def take(self) -> JobFolder:
        """The newest, which is under way from now on.

        Raises:
            RequestError: another Slicer has taken it.
        """
        return self._claim(self.newest)

    def discard(self, folder: Path) -> None:
        """Remove the job in a folder and all that it has learned.

        Raises:
            RequestError: another Slicer has taken it.
        """
        for job in [job for job in self._jobs if job.folder == folder]:
            self._claim(job).remove()

    def _claim(self, job: JobFolder) -> JobFolder:
        self._jobs.remove(job)
        now = job_in(job.folder)
        if now is None or not now.resumable:
            raise RequestError(say("job taken", title=job.record.title))
        return now

    def look(self, own: Collection[JobFolder | None], at_once: bool = False) -> None:
        """Look through the folder, if that is long ago or `at_once`; jobs that came to nothing are removed.

        Args:
            own: those under way here: after the computer has slept they look abandoned for a moment.
        """
        if not at_once and time.monotonic() - self._looked < _SECONDS:
            return
        self._looked = time.monotonic()
        self._jobs = []
        remove_leftovers(self._folder)
        mine = {job.folder for job in own if job is not None}
        for job in [job for job in all_jobs(self._folder) if job.folder not in mine]:
            if job.resumable:
                self._jobs.insert(0, job)
            elif job.record.state == FINISHED and job.record.kind == TRAIN and job.abandoned:
                with suppress(GLMAEError):  # Slicer crashed before the model was moved
                    keep_model(job, self._library)
            elif job.forgotten:
                job.remove()
