"""The engine's own Python environment: where it lies, what state it is in, and that only one process changes it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .packages import RESOURCES, installed_packages, lacking

# Written by development/lock.py: exact versions and hashes of what is installed, of uv, which installs it, and of
# PyTorch as the package index has it.
LOCK = RESOURCES / "engine_lock.txt"
UV_LOCK = RESOURCES / "uv_lock.txt"
TORCH_LOCK = RESOURCES / "torch_lock.txt"

# absent: nothing installed. unfinished: an installation was interrupted, or a check found it damaged.
# damaged: files are gone. outdated: it works, but the lock names other versions. ready: as the lock says.
State = Literal["absent", "unfinished", "damaged", "outdated", "ready"]


class Busy(Exception):
    """Another process is installing into the environment or removing it."""


@dataclass(frozen=True)
class EngineEnvironment:
    """The environment in one folder, which need not exist.

    Args:
        root: its folder: Python, packages, uv and uv's downloads are all in it, and nothing else is changed.
        lock: the versions to install.
        windows: whether the computer runs Windows.
    """

    root: Path
    lock: Path = LOCK
    windows: bool = sys.platform == "win32"

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return self.root / "env"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if self.windows else "bin/python")

    @property
    def uv(self) -> Path:
        """Where pip puts uv."""
        return self.root / "uv" / ("bin/uv.exe" if self.windows else "bin/uv")

    @property
    def site_packages(self) -> Path:
        """Where its packages are; the folder need not exist."""
        if self.windows:
            return self.folder / "Lib" / "site-packages"
        return next(self.folder.glob("lib/python3.*/site-packages"), self.folder / "lib" / "site-packages")

    @property
    def state(self) -> State:
        """What can be seen without starting a process."""
        if not self.folder.exists():
            return "absent"
        record = self.record()
        if record is None:
            return "unfinished"
        if not self.python.exists() or lacking(installed_packages([self.site_packages])):
            return "damaged"
        return "ready" if record["lock"] == self.lock_hash() else "outdated"

    def lock_hash(self) -> str:
        """What tells these versions from others."""
        return hashlib.sha256(self.lock.read_bytes()).hexdigest()

    def record(self) -> dict[str, Any] | None:
        """What was noted when the installation was complete: `lock` and `bytes` on the disk; None when it is not."""
        try:
            content = json.loads(self._record.read_text(encoding="utf-8"))
            return {"lock": str(content["lock"]), "bytes": int(content["bytes"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def set_ready(self) -> None:
        """Note that everything is installed and works."""
        content = {"lock": self.lock_hash(), "bytes": size_of(self.root)}
        temporary = self._record.with_suffix(".writing")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, self._record)

    def set_unfinished(self) -> None:
        """Note that something of it is missing, or about to be changed."""
        self._record.unlink(missing_ok=True)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """For as long as the block runs, no other process may change the environment.

        The system frees the lock when a process ends, however it ends.

        Raises:
            Busy: another process changes it.
            OSError: the folder beside it cannot be written.
        """
        path = self.root.with_name(self.root.name + ".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            try:
                _lock(file.fileno())
            except OSError as error:
                raise Busy from error
            yield

    @property
    def _record(self) -> Path:
        return self.root / "ready.json"


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; a file with several names, as uv makes them, counts once.

    What vanishes meanwhile does not count: after a kill, uv may still be about.
    """
    total, seen, folders = 0, set(), [str(folder)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    # Not entry.stat(): on Windows it has no number that is the same for two names of a file.
                    status = os.stat(entry.path, follow_symlinks=False)
                    if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                        total += status.st_size
                        seen.add((status.st_dev, status.st_ino))
    return total


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
