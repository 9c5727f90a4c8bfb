"""The jobs on disk that were stopped or cut off, and what can still be done with the newest of them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from glmae.errors import GLMAEError

from ..models.library import ModelLibrary
from .folder import FINISHED, TRAIN, JobFolder, all_jobs, remove_leftovers
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
    def newest(self) -> JobFolder | None:
        """The one that Continue goes on with."""
        return self._jobs[0] if self._jobs else None

    def take(self) -> JobFolder:
        """The newest, which is under way from now on."""
        return self._jobs.pop(0)

    def discard(self, folder: Path) -> None:
        """Remove the job in a folder and all that it has learned."""
        for job in [job for job in self._jobs if job.folder == folder]:
            self._jobs.remove(job)
            job.remove()

    def look(self, current: JobFolder | None, at_once: bool = False) -> None:
        """Look through the folder, if that is long ago or `at_once`; jobs that came to nothing are removed."""
        if not at_once and time.monotonic() - self._looked < _SECONDS:
            return
        self._looked = time.monotonic()
        self._jobs = []
        remove_leftovers(self._folder)
        for job in all_jobs(self._folder):
            if current is not None and job.folder == current.folder:
                continue
            if job.resumable:
                self._jobs.insert(0, job)
            elif job.record.state == FINISHED and job.record.kind == TRAIN and job.abandoned:
                with suppress(GLMAEError):  # Slicer crashed before the model was moved
                    keep_model(job, self._library)
            elif job.abandoned:
                job.remove()
