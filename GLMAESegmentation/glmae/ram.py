"""How much of the computer's memory is free, within the limits of a container, too."""

from __future__ import annotations

from pathlib import Path

# Version 2 of Linux's control groups: what a container may use.
_GROUP = Path("/sys/fs/cgroup")


def free_ram() -> int:
    """Bytes that this process can still have without the system moving others to the disk."""
    import psutil  # here, because Slicer's own process does without it

    available = int(psutil.virtual_memory().available)
    limit = _group_limit()
    return available if limit is None else min(available, limit)


def _group_limit() -> int | None:
    """What is left of a container's RAM; None without such a limit. Cached files do not count as used."""
    try:
        most = int((_GROUP / "memory.max").read_text())
        used = int((_GROUP / "memory.current").read_text())
        lines = (line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        cached = sum(int(value) for name, value in lines if name in ("active_file", "inactive_file"))
    except (OSError, ValueError):  # no control group, or no limit ("max")
        return None
    return max(0, most - max(0, used - cached))
