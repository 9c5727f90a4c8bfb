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
        name: a few words.
        cause: a sentence.
        remedy: a sentence that says what to do now; "" where the cause says it.
        lasting: whether going on with the job would end the same way.
    """

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


def failure_of(event: Mapping[str, Any] | None, exit_status: int | None, log: Sequence[str]) -> Failure:
    """The failure that a job ended with.

    Args:
        event: its last event, `failed`, if it came to sending one.
        exit_status: of the process; None when it could not be started or was ended by force.
        log: the lines that the process wrote beside its events.
    """
    tail = [line for line in log if line.strip()][-40:]
    if event is not None:
        name, message = str(event.get("name", "")), str(event.get("message", ""))
        if name == "MemoryError":
            return _out_of_memory(on_gpu=False)
        known = _known(message)
        return known or _of_error(name, message)
    known = _known("\n".join(tail))
    if known is not None:
        return known
    last = " / ".join(line.strip() for line in tail[-LAST_LINES:])
    status = _("without a status") if exit_status is None else _("with status {n}").format(n=exit_status)
    return Failure(
        _("The engine ended unexpectedly"),
        _("It ended {status}. Its last lines: {lines}").format(status=status, lines=last or _("(none)")),
        _("Try again; if it happens again, copy the log and report it."),
    )


def not_started(program: str, reason: str = "") -> Failure:
    """The process could not be started at all."""
    return Failure(
        _("The engine could not be started"),
        _("{program} did not start {reason}").format(program=program, reason=f"({reason})." if reason else "."),
        _("Press Check my set-up under Advanced, which finds what is damaged, then Repair."),
    )


def _of_error(name: str, message: str) -> Failure:
    """An error of the engine: its cause, and instead of a remedy for the command line one that the panel has."""
    remedies = {
        "ScanError": _("Load this scan again, or set it to Ignore in the table."),
        "ModelError": _("Choose another model, or import it again."),
    }
    cause = message.split("; ")[0] if name in remedies else message
    return Failure(_named(name), sentence(cause), remedies.get(name, ""), lasting=name in (*remedies, "RequestError"))


def _named(name: str) -> str:
    """A few words for an error of the engine."""
    names = {
        "RequestError": _("This cannot be done as it is"),
        "ScanError": _("A scan cannot be used"),
        "ModelError": _("The model cannot be used"),
        "StorageError": _("A result could not be written"),
        "Stopped": _("Stopped"),
    }
    return names.get(name, _("The job failed"))


def _known(text: str) -> Failure | None:
    missing = re.search(r"No module named '([\w.]+)'", text)
    if missing:
        return Failure(
            _("A Python package is missing"),
            _("The package {name} is not installed.").format(name=missing[1].split(".")[0]),
            _("Press Check my set-up under Advanced, then Repair."),
        )
    if re.search(r"No space left on device|disk is full|not enough space on the disk", text, re.IGNORECASE):
        return Failure(
            _("No space on the disk"),
            _("The disk with the models and jobs is full."),
            _("Free some space, then press Continue."),
        )
    if re.search(r"CUDA out of memory|OutOfMemoryError|MPS backend out of memory", text):
        return _out_of_memory(on_gpu=True)
    if re.search(r"MemoryError|can't allocate memory|not enough memory", text):
        return _out_of_memory(on_gpu=False)
    if re.search(r"no kernel image|CUDA error|CUDA driver|cuDNN|device '\w+' cannot be used", text):
        return Failure(
            _("The GPU cannot be used"),
            _("The graphics card or its driver does not work with the installed PyTorch."),
            _("Set Advanced > Compute on to Processor (CPU), or update the driver."),
        )
    return None


def _out_of_memory(on_gpu: bool) -> Failure:
    if on_gpu:
        return Failure(
            _("Out of GPU memory"),
            _("The graphics card has too little free memory for this job."),
            _("Close other programs that use it, or set Advanced > Compute on to Processor (CPU)."),
        )
    return Failure(
        _("Out of memory"),
        _("The computer has too little free memory for this job."),
        _("Close other programs, or limit the scans to a region (Advanced)."),
    )


def sentence(message: str) -> str:
    """A message of the engine as a sentence: it begins with a capital and ends with a full stop."""
    message = message.strip()
    if not message:
        return ""
    if message.split()[0].isalpha():  # the name of a file or scan stays as it is
        message = message[0].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else message + "."
