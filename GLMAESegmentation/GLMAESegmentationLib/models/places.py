"""Where models and jobs are kept, and how they get there from where an earlier version kept them."""

from __future__ import annotations

import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

FOLDERS = ("models", "jobs")
_MOVING = ".moving-"
_MOMENT = 60.0  # seconds


def move_here(folder: Path, earlier: Path) -> None:
    """Move the models and jobs in `earlier` to `folder`; what cannot be moved, or has its name there, stays.

    Beside Slicer's settings they were copied to a server at every log-off where Windows' profiles roam.
    """
    for kind in FOLDERS:
        for source in sorted((Path(earlier) / kind).glob("*")):
            target = Path(folder) / kind / source.name
            temporary = target.with_name(f"{_MOVING}{uuid.uuid4().hex[:12]}")
            if target.exists() or source.name.startswith(".") or _under_way(source):
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, temporary)  # across disks this copies: what is half copied must have no name
                temporary.rename(target)
            except OSError:  # in use, or no room: it stays, and is tried again at the next start
                if source.exists():
                    shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            (Path(earlier) / kind).rmdir()
    with suppress(OSError):  # empty by now
        Path(earlier).rmdir()


def _under_way(job: Path) -> bool:
    """Whether a process, of another Slicer, touched the job's `alive` a moment ago."""
    try:
        return time.time() - (job / "alive").stat().st_mtime < _MOMENT
    except OSError:
        return False
