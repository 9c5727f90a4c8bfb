"""The folder of a training run: never somebody else's files, resumable while unfinished, a model when done."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import RequestError, Stopped
from .files import storage_error, write_json
from .json_record import with_names_of_today

UNFINISHED = "unfinished"
MODEL = "model.json"
REQUEST = "request.json"
SECONDS = "seconds.json"
# What of an unfinished run is worth keeping after a failure.
PROGRESS = ("*.safetensors", "scores.json")


class RunFolder:
    """`OUT/unfinished/` holds what resuming needs; `OUT/model.json` is written last and makes the run a model.

    Args:
        request: what decides the result (JSON values); a run is resumed only with the same request.

    Raises:
        RequestError: the folder holds something else, a finished model, or an unfinished run of another request.
    """

    def __init__(self, out: Path, request: Mapping[str, Any], resume: bool) -> None:
        self.out, self.unfinished = Path(out), Path(out) / UNFINISHED
        self.finished = False
        self._request = with_names_of_today(json.loads(json.dumps(dict(request))))
        self._check(resume)

    @property
    def checkpoint(self) -> Path:
        """Where the newest checkpoint lies, if there is one."""
        return self.unfinished / "checkpoint.safetensors"

    @property
    def scans(self) -> Path:
        """Where the scans of the run are kept as they were prepared."""
        return self.unfinished / "scans"

    @contextmanager
    def begun(self, since: float) -> Iterator[float]:
        """Create the folder for a block that makes the model, and end the run with it; see `begin`, `abandon`, `end`.

        Args:
            since: `time.monotonic` when this sitting began.

        Yields:
            When the run began, as if all its sittings had followed each other.
        """
        since -= self.seconds_spent
        self.begin()
        with self.abandoned_but_for(Stopped):
            yield since
        self.end()

    @contextmanager
    def abandoned_but_for(self, *resumable: type[BaseException]) -> Iterator[None]:
        """For a block that works in the folder: any other error than these abandons the run."""
        try:
            yield
        except resumable:
            raise
        except BaseException:
            self.abandon()
            raise

    @property
    def seconds_spent(self) -> float:
        """Seconds that earlier sittings of this run took, as far as they were noted."""
        try:
            return float(json.loads((self.unfinished / SECONDS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return 0.0

    def note_seconds(self, seconds: float) -> None:
        """Store how long the run took so far, all sittings together."""
        write_json(self.unfinished / SECONDS, round(seconds, 2))

    def begin(self) -> None:
        """Create the folder. Called when everything that can be checked beforehand was.

        Raises:
            RequestError: there can be no such folder.
            StorageError: the disk is full.
        """
        try:
            self.unfinished.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sentence = storage_error(self.out, error)
            raise (sentence if error.errno == errno.ENOSPC else RequestError(str(sentence))) from error
        write_json(self.unfinished / REQUEST, self._request)

    def end(self) -> None:
        """Remove what only resuming needed."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.finished = True

    def abandon(self) -> None:
        """After a failure: keep what can be resumed, else leave nothing behind."""
        if self.finished or any(next(self.unfinished.rglob(kind), None) for kind in PROGRESS):
            return
        shutil.rmtree(self.unfinished, ignore_errors=True)
        if self.out.is_dir() and not any(self.out.iterdir()):
            self.out.rmdir()

    def _check(self, resume: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise RequestError(f"{self.out} is a file; choose another folder with --out")
        if (self.out / MODEL).exists():
            if not resume:
                raise RequestError(f"{self.out} already holds a model; choose another folder with --out")
            self.finished = True
            return
        if not self.unfinished.is_dir():
            if self.out.is_dir() and any(self.out.iterdir()):
                raise RequestError(f"{self.out} is not empty; choose a new folder with --out")
            return
        if not resume:
            raise RequestError(
                f"{self.out} holds an interrupted run; add --resume to go on, or choose another folder with --out"
            )
        if self.unfinished.is_symlink() or any(entry.is_symlink() for entry in self.unfinished.rglob("*")):
            # Somebody else's run could lead the files of this one anywhere.
            raise RequestError(f"{self.unfinished} holds links to other folders; choose another folder with --out")
        try:
            stored = with_names_of_today(json.loads((self.unfinished / REQUEST).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise RequestError(
                f"{self.out}: the interrupted run is damaged; choose another folder with --out"
            ) from error
        different = sorted(key for key in self._request if stored.get(key) != self._request[key])
        if different:
            raise RequestError(
                f"{self.out} holds an interrupted run with other settings ({', '.join(different)}); "
                "repeat them, or choose another folder with --out"
            )
