"""What one row of segment.json measures: a scan, a model, and a way to segment it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

METHODS = ("monai_same_network", "glmae", "monai_unetr48")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One row.

    Attributes:
        case: its name in the results.
        image: file of the scan.
        model: folder of the model; it says how many classes there are.
        classes: these, without background.
        device: cpu, cuda or mps.
        precision: float32, or the best that the device has.
        method: one of `METHODS`.
        labels: where the label map is written.
        reference: label map to compare with; None: nothing to compare with.
        exact: label map of MONAI's sliding window in float32, to compare with, too; None, or not there: nothing is.
        memory_gb: main memory above which a method does not fit; None: whatever the system gives.
        timed_windows: how many windows of the UNETR are timed.
    """

    case: str
    image: str
    model: str
    classes: int
    device: str
    precision: str
    method: str
    labels: str
    reference: str | None = None
    exact: str | None = None
    memory_gb: float | None = None
    timed_windows: int = 20

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Measurement:
        return Measurement(**json.loads(path.read_text(encoding="utf-8")))
