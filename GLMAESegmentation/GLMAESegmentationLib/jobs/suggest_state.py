"""What Suggest is at, for the panel."""

from __future__ import annotations

from dataclasses import dataclass

# Requests of `glmae live`, and what comes before them.
FIT, SEGMENT, AHEAD, WRITE = "fit", "segment", "ahead", "write"


@dataclass(frozen=True)
class SuggestState:
    """What is shown of it.

    Attributes:
        on: whether the process is alive, or being started.
        stage: FIT, SEGMENT or AHEAD while an answer is to come, WRITE while scans are written; "" at rest.
        scan: name of the scan that this is about; "" for none.
        fraction: of the stage, 0-1; None while unknown.
        labels: number of labels that the proposals are made from.
        proposed: number of scans whose proposal is made from them, of `wanted`.
        problem: why there is no proposal; "" for nothing.
    """

    on: bool = False
    stage: str = ""
    scan: str = ""
    fraction: float | None = None
    labels: int = 0
    proposed: int = 0
    wanted: int = 0
    problem: str = ""
