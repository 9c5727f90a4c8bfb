"""Which scans a click is about: those to train on, those to segment."""

from __future__ import annotations

from collections.abc import Sequence

from .choices import SEGMENT, TRAIN
from .scan_table import SEGMENTED, Scan


def training_scans(scans: Sequence[Scan]) -> list[Scan]:
    """The scans that training would use."""
    return [scan for scan in scans if scan.role == TRAIN and scan.trainable]


def scans_to_segment(scans: Sequence[Scan], model: str) -> list[Scan]:
    """The scans that Segment would segment: those without a result of this model; all, when each has one."""
    chosen = [scan for scan in scans if scan.role == SEGMENT]
    return [scan for scan in chosen if not scan.result_id or scan.result_model != model] or chosen


def scans_to_propose(scans: Sequence[Scan]) -> list[Scan]:
    """The scans that Suggest proposes a segmentation of: neither labeled nor segmented by a trained model."""
    chosen = [scan for scan in scans if scan.role == SEGMENT and not scan.trainable]
    return [scan for scan in chosen if scan.proposal or not scan.result_id]


def review_order(scans: Sequence[Scan]) -> list[Scan]:
    """The scans with a result to look at: the doubtful ones first, then those that the model was least sure of."""
    results = [scan for scan in scans if scan.result_id and scan.state == SEGMENTED]
    return sorted(results, key=lambda scan: (not scan.doubts, -scan.uncertainty))


def scan_to_preview(scans: Sequence[Scan], selected: str = "") -> Scan:
    """The scan to try a training on: the selected one, else one that it does not learn from, else any."""
    return min(scans, key=lambda scan: (scan.volume_id != selected, scan.role != SEGMENT))
