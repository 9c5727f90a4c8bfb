"""Durations, lists and progress in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.progress import JobProgress
from ..messages import MESSAGES, say


def duration(seconds: float, exact: bool = False) -> str:
    """A length of time as people say it; "about" unless `exact`."""
    if seconds < 50:
        text = say("seconds", count=max(5, 5 * round(seconds / 5)))
    elif seconds < 90 * 60:
        text = say("minutes", n=round(seconds / 60))
    else:
        text = say("hours", count=seconds / 3600)
    return text if exact else say("about", time=text)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a row; when there are many, the first ones and how many more."""
    if len(names) <= most:
        return ", ".join(names)
    return say("and more", names=", ".join(names[:most]), count=len(names) - most)


def progress_sentence(progress: JobProgress) -> str:
    """How far a job is and how long it will take; a stage that is not known is named as the engine names it."""
    known = f"stage {progress.stage}" in MESSAGES
    text = say(f"stage {progress.stage}") if known else progress.stage[0].upper() + progress.stage[1:]
    if progress.total > 0:
        text += " " + say("stage count", done=progress.done, total=progress.total)
    if progress.seconds_left is not None and progress.seconds_left > 0:
        text += ", " + say("time left", time=duration(progress.seconds_left))
    return text + "."
