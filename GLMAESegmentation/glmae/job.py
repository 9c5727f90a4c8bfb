"""What a command carries through its work: where it reports to and computes, and whether the user wants it to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .devices import choose_device, is_out_of_memory
from .errors import GLMAEError, Stopped
from .events import Events
from .files import last_line


@dataclass(frozen=True)
class Job:
    """One command at work.

    Attributes:
        go_on: what to do after a stop, for people.
    """

    events: Events
    device: torch.device
    should_stop: Callable[[], bool] = lambda: False
    go_on: str = "add --resume to go on"

    def check(self) -> None:
        """Called now and then.

        Raises:
            Stopped: the user wants to stop.
        """
        if self.should_stop():
            raise Stopped(f"stopped; {self.go_on}")


def begin(name: str, device: str, events: Events, should_stop: Callable[[], bool], go_on: str, **fields: Any) -> Job:
    """Choose the device (see `choose_device`), and report that the command `name` begins, with `fields`.

    Raises:
        RequestError: the device cannot be used.
    """
    chosen, reason = choose_device(device)
    events.started(name, **fields, device=str(chosen))
    events.info(reason)
    return Job(events, chosen, should_stop, go_on)


def failure(error: Exception, of: str) -> tuple[str, str]:
    """Name and sentence for whatever error ended something, such as a job."""
    name = type(error).__name__
    if isinstance(error, GLMAEError):
        return name, str(error)
    if is_out_of_memory(error):
        remedy = "close other programs or use a smaller scan"
        return MemoryError.__name__, f"there is not enough memory for this {of}; {remedy}"
    return name, f"unforeseen {name} ({last_line(error)}); please report it with the command and the kind of your files"
