"""What went wrong with a job, in words: a name, a cause, a remedy, whatever way the engine's process ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glmae.errors import ScanError
from glmae.files import storage_error

from ..messages import FAILURES, failure_texts, say


@dataclass(frozen=True)
class Failure:
    """One failure, for the user.

    Attributes:
        key: what it is, the same in every language.
        name: a few words.
        cause: a sentence.
        remedy: a sentence that says what to do now; "" where the cause says it.
        lasting: whether going on with the job would end the same way.
    """

    key: str
    name: str
    cause: str
    remedy: str = ""
    lasting: bool = False

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        return f"{self.name}: {self.reason}"

    @property
    def reason(self) -> str:
        """Cause and remedy."""
        return " ".join(part for part in (self.cause, self.remedy) if part)


# What a process or an error says, and what it means; the first that fits.
_SIGNS = (
    ("package missing", r"No module named '([\w.]+)'"),
    ("disk full", r"(?i)No space left on device|disk is full|not enough space on the disk"),
    ("gpu memory", r"CUDA out of memory|OutOfMemoryError|MPS backend out of memory"),
    ("memory", r"MemoryError|can't allocate memory|not enough memory|needs? about [\d.]+ .B of memory and"),
    ("gpu", r"no kernel image|CUDA error|CUDA driver|cuDNN|device '\w+' cannot be used"),
)
# Errors of the engine that would come again.
_LASTING = ("RequestError", "ScanError", "ModelError")
# What a message says to whoever uses the command line, or files that the panel writes.
_OF_THE_COMMAND_LINE = (
    r" \(--\w+\)|, as asked(?=\.)",
    r",? (?:or|and) [^,;]*(?:--\w|classes\.json)[^,;]*",
    r"; [^;]*(?:--\w|(?<!unless )classes\.json)[^;]*|; please report[^;]*",
)


# Of the files of a job nothing but their folder is named.
_FILE_OF_A_JOB = r"([/\\]jobs)[/\\].*?(?= could not be written)"


def for_the_panel(message: str) -> str:
    """A message of the engine without what only somebody at the command line can do."""
    for part in _OF_THE_COMMAND_LINE:
        message = re.sub(part, "", message)
    return message


def failure_of(
    event: Mapping[str, Any] | None, exit_status: int | None, log: Sequence[str], device: str = ""
) -> Failure:
    """The failure that a job ended with.

    Args:
        event: its last event, `failed`, if it came to sending one.
        exit_status: of the process; None when it could not be started or was ended by force.
        log: the lines that the process wrote beside its events.
        device: what it computed on, as it said; "" while unknown.
    """
    name, message = "", "\n".join([line for line in log if line.strip()][-40:])
    if event is not None:
        name, message = str(event.get("name", "")), for_the_panel(str(event.get("message", "")))
    for key, sign in _SIGNS:
        if found := re.search(sign, message):
            if key == "disk full":
                return _failure(key, _told(message) if name == "StorageError" else say("disk of jobs"))
            if key in ("memory", "gpu memory"):
                cause = "" if event is None else sentence(message.split("; ")[0])
                return _failure("memory" if key == "memory" and device in ("", "cpu") else "gpu memory", cause)
            return _failure(key, found[1].split(".")[0] if found.groups() else "")
    if event is None:
        return _failure("killed") if exit_status in (None, 137) else _failure("crashed", str(exit_status))
    if name in ("ScanError", "ModelError", "StorageError"):
        return _failure(name, _told(message))
    return _failure(name if name in FAILURES else "failed", sentence(message))


def failure_of_error(error: Exception) -> Failure:
    """The failure that an error of this process is."""
    if isinstance(error, OSError):
        error = storage_error(Path(str(error.filename)), error)
    found = failure_of({"name": type(error).__name__, "message": str(error)}, None, [])
    # What is wrong with a node of the scene is said with what to do about it in Slicer.
    return replace(found, cause=sentence(str(error)), remedy="") if isinstance(error, ScanError) else found


def not_started(program: str, reason: str = "") -> Failure:
    """The process could not be started at all."""
    return _failure("not started", say("not started", program=program, reason=reason))


def _told(message: str) -> str:
    """What happened, without the engine's remedy: the panel has its own."""
    return sentence(re.sub(_FILE_OF_A_JOB, r"\1", message).split("; ")[0])


def _failure(key: str, detail: str = "") -> Failure:
    name, cause, remedy = failure_texts(key, detail)
    return Failure(key, name, cause, remedy, lasting=key in _LASTING)


def sentence(message: str) -> str:
    """A message of the engine as a sentence: it begins with a capital and ends with a full stop."""
    message = message.strip()
    if not message:
        return ""
    if message.split()[0].isalpha():  # the name of a file or scan stays as it is
        message = message[0].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else message + "."
