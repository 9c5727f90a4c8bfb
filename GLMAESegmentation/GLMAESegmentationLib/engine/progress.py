"""What is known of a running job: each event of docs/events.md, applied one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Points of a curve that are kept; when there are more, every other one is dropped.
CURVE_POINTS = 400


@dataclass
class JobProgress:
    """The state of a job as its events tell it. Kinds and fields that are not known are passed over.

    Attributes:
        stage: what the job is at, in the engine's word; "" before the first progress.
        done: units of the stage that are finished.
        total: units of the stage.
        seconds_left: estimate; None while unknown.
        device: what it computes on; "" while unknown.
        device_reason: the device, and why, in a sentence; "" while unknown.
        memory: bytes that a training takes, and bytes that are free; None while unknown.
        warnings: what the user should know.
        loss: (step, loss) points of the training curve of the model itself.
        finished: the fields of the last event of a job that ended by itself.
        failed: the fields of the last event of a job that did not.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    device: str = ""
    device_reason: str = ""
    memory: tuple[int, int] | None = None
    warnings: list[str] = field(default_factory=list)
    loss: list[tuple[float, float]] = field(default_factory=list)
    finished: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None

    @property
    def fraction(self) -> float:
        """Share of the stage that is over, 0-1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take one event into account."""
        kind = event.get("event")
        if kind == "started":
            self.device = str(event.get("device") or "")
        elif kind == "warning":
            self.warnings.append(str(event.get("message") or ""))
        elif kind == "info" and self.device and not self.device_reason:  # what every job says first, once it has begun
            self.device_reason = str(event.get("message") or "")
        elif kind == "progress":
            self._progress(event)
        elif kind == "estimate":
            need, free = number(event.get("memory_bytes")), number(event.get("free_bytes"))
            if need is not None and free is not None:
                self.memory = (int(need), int(free))
        elif kind == "finished":
            self.finished = dict(event)
        elif kind == "failed":
            self.failed = dict(event)

    def _progress(self, event: Mapping[str, Any]) -> None:
        stage = str(event.get("stage") or "")
        if stage != self.stage:
            self.loss.clear()  # the curve of another training begins
        self.stage = stage
        self.done, self.total = int(number(event.get("done")) or 0), int(number(event.get("total")) or 0)
        self.seconds_left = number(event.get("seconds_left"))
        loss = number(event.get("loss"))
        if loss is not None:
            self.loss.append((float(self.done), loss))
        if len(self.loss) > CURVE_POINTS:
            del self.loss[1:-1:2]


def certainty_of(event: Mapping[str, Any]) -> tuple[float | None, list[str]]:
    """What the engine says of a result: how unsure it is of the structure that it is least sure of, 0-1 (None where it
    does not say), and what is doubtful, a sentence each.
    """
    shares, flags = event.get("uncertainty"), event.get("flags")
    known = [number(share) for share in shares.values()] if isinstance(shares, Mapping) else []
    said = [flag.get("message") for flag in flags if isinstance(flag, dict)] if isinstance(flags, list) else []
    return (
        max((share for share in known if share is not None), default=None),
        [message for message in said if isinstance(message, str)],
    )


def number(value: Any) -> float | None:
    """`value` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
