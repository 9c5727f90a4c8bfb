"""The scans that are being segmented, each with its state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..messages import say

WAITING, RUNNING, DONE, FAILED, CANCELED = "waiting", "running", "done", "failed", "canceled"


@dataclass(frozen=True)
class QueuedScan:
    """One scan of the queue.

    Attributes:
        volume_id: ID of its volume node.
        name: of the volume.
        state: WAITING, RUNNING, DONE, FAILED or CANCELED.
        case: its name for the engine; "" before it is exported.
        note: why it failed, or what is doubtful about its result.
        channels: IDs of all its volumes, where there are several.
        result_id: ID of the new segmentation node; "" while there is none.
    """

    volume_id: str
    name: str
    state: str = WAITING
    case: str = ""
    note: str = ""
    channels: tuple[str, ...] = ()
    result_id: str = ""


class SegmentationQueue:
    """The scans in the order in which they were asked for."""

    def __init__(self, scans: Iterable[QueuedScan] = ()) -> None:
        self._scans = list(scans)

    @property
    def scans(self) -> tuple[QueuedScan, ...]:
        """All of them."""
        return tuple(self._scans)

    def with_state(self, *states: str) -> tuple[QueuedScan, ...]:
        """Those in one of these states."""
        return tuple(scan for scan in self._scans if scan.state in states)

    def of_case(self, case: str) -> QueuedScan | None:
        """The scan that the engine knows as `case`."""
        return next((scan for scan in self._scans if scan.case == case), None)

    def update(self, volume_id: str, **changes: Any) -> None:
        """Change fields of one scan."""
        self._scans = [replace(scan, **changes) if scan.volume_id == volume_id else scan for scan in self._scans]

    def case_event(self, case: str, state: str, message: str) -> None:
        """Follow the engine: a case is running or has failed. DONE is for the caller, when the result is in the scene.

        A scan that the user canceled stays so.
        """
        scan = self.of_case(case)
        if scan is None or scan.state not in (WAITING, RUNNING):
            return
        if state == "running":
            self.update(scan.volume_id, state=RUNNING)
        elif state == "failed":
            self.update(scan.volume_id, state=FAILED, note=message)

    def close(self, state: str, note: str = "") -> None:
        """Nothing more comes: what is still open gets this state."""
        for scan in self.with_state(WAITING, RUNNING):
            self.update(scan.volume_id, state=state, note=note)

    @property
    def sentence(self) -> str:
        """How far it is."""
        parts = [say("segmented", done=len(self.with_state(DONE)), total=len(self._scans))]
        for state in (FAILED, CANCELED):
            if count := len(self.with_state(state)):
                parts.append(say(f"segment {state}", count=count))
        return " ".join(parts)
