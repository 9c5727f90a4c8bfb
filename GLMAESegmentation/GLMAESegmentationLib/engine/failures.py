"""What went wrong with a job, in words: a name, a cause, a remedy, whatever way the engine's process ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..translation import tr as _

LAST_LINES = 6


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
    ("memory", r"MemoryError|can't allocate memory|not enough memory"),
    ("gpu", r"no kernel image|CUDA error|CUDA driver|cuDNN|device '\w+' cannot be used"),
)
# Errors of the engine that would come again.
_LASTING = ("RequestError", "ScanError", "ModelError")


def failure_words() -> dict[str, tuple[str, str, str]]:
    """Name, cause and remedy of every failure, by key. `{detail}` is what was said; a cause that is only that is it."""
    repair = _("Press Check my set-up under Advanced, then Repair.")
    said = "{detail}"
    return {
        "package missing": (_("A Python package is missing"), _("The package {detail} is not installed."), repair),
        "disk full": (
            _("No space on the disk"),
            _("The disk with the models and jobs is full."),
            _("Free some space, then press Continue."),
        ),
        "gpu memory": (
            _("Out of GPU memory"),
            _("The graphics card has too little free memory for this job."),
            _("Close other programs that use it, or set Advanced > Compute on to Processor (CPU)."),
        ),
        "memory": (
            _("Out of memory"),
            _("The computer has too little free memory for this job."),
            _("Close other programs, or limit the scans to a region (Advanced)."),
        ),
        "gpu": (
            _("The GPU cannot be used"),
            _("The graphics card or its driver does not work with the installed PyTorch."),
            _("Set Advanced > Compute on to Processor (CPU), or update the driver."),
        ),
        "crashed": (
            _("The engine ended unexpectedly"),
            _("It ended {detail}"),
            _("Try again; if it happens again, copy the log and report it."),
        ),
        "not started": (
            _("The engine could not be started"),
            said,
            _("Press Check my set-up under Advanced, which finds what is damaged, then Repair."),
        ),
        "ScanError": (
            _("A scan cannot be used"),
            said,
            _("Load this scan again, or set it to Ignore in the table."),
        ),
        "ModelError": (_("The model cannot be used"), said, _("Choose another model, or import it again.")),
        "RequestError": (_("This cannot be done as it is"), said, ""),
        "StorageError": (_("A result could not be written"), said, ""),
        "Stopped": (_("Stopped"), said, ""),
        "failed": (_("The job failed"), said, ""),
    }


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
    tail = [line for line in log if line.strip()][-40:]
    name, message = (
        ("", "\n".join(tail)) if event is None else (str(event.get("name", "")), str(event.get("message", "")))
    )
    if name == "MemoryError":
        return _failure("memory" if device in ("", "cpu") else "gpu memory")
    for key, sign in _SIGNS:
        if found := re.search(sign, message):
            return _failure(key, found[1].split(".")[0] if found.groups() else "")
    if event is None:
        last = " / ".join(line.strip() for line in tail[-LAST_LINES:])
        status = _("without a status") if exit_status is None else _("with status {n}").format(n=exit_status)
        return _failure(
            "crashed", _("{status}. Its last lines: {lines}").format(status=status, lines=last or _("(none)"))
        )
    if name in ("ScanError", "ModelError"):  # instead of a remedy for the command line there is one of the panel
        message = message.split("; ")[0]
    return _failure(name if name in failure_words() else "failed", sentence(message))


def failure_of_error(error: Exception) -> Failure:
    """The failure that an error of this process is."""
    return failure_of({"name": type(error).__name__, "message": str(error)}, None, [])


def not_started(program: str, reason: str = "") -> Failure:
    """The process could not be started at all."""
    detail = _("{program} did not start {reason}").format(program=program, reason=f"({reason})." if reason else ".")
    return _failure("not started", detail)


def _failure(key: str, detail: str = "") -> Failure:
    name, cause, remedy = failure_words()[key]
    return Failure(key, name, cause.replace("{detail}", detail), remedy, lasting=key in _LASTING)


def sentence(message: str) -> str:
    """A message of the engine as a sentence: it begins with a capital and ends with a full stop."""
    message = message.strip()
    if not message:
        return ""
    if message.split()[0].isalpha():  # the name of a file or scan stays as it is
        message = message[0].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else message + "."
