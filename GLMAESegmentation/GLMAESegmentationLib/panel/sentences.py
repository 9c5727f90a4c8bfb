"""Durations, lists and progress in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.progress import JobProgress
from ..translation import tr as _


def duration(seconds: float, exact: bool = False) -> str:
    """A length of time as people say it; "about" unless `exact`."""
    if seconds < 50:
        text = _("{n} seconds").format(n=max(5, 5 * round(seconds / 5)))
    elif seconds < 90:
        text = _("1 minute")
    elif seconds < 90 * 60:
        text = _("{n} minutes").format(n=round(seconds / 60))
    else:
        text = _("{n:.1f} hours").format(n=seconds / 3600)
    return text if exact else _("about {time}").format(time=text)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a row; when there are many, the first ones and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return _("{names} and {n} more").format(names=", ".join(names[:most]), n=len(names) - most)


def stage_name(stage: str) -> str:
    """The engine's word for a stage of a job, in words for the user; unknown ones as they are."""
    known = {
        "": _("Starting"),
        "measure": _("Reading the scans"),
        "prepare": _("Preparing the scans"),
        "finetune": _("Training"),
        "segment": _("Segmenting"),
        "check": _("Checking the labels"),
    }
    return known.get(stage) or stage[0].upper() + stage[1:]


def progress_sentence(progress: JobProgress) -> str:
    """How far a job is and how long it will take."""
    text = stage_name(progress.stage)
    if progress.total > 0:
        text += " " + _("({done} of {total})").format(done=progress.done, total=progress.total)
    if progress.seconds_left is not None and progress.seconds_left > 0:
        text += ", " + _("{time} left").format(time=duration(progress.seconds_left))
    return text + "."
