"""Which scans a click is about: those to train on, those to segment, the one to label next."""

from __future__ import annotations

from collections.abc import Sequence

from .choices import SEGMENT, TRAIN
from .scan_table import UNLABELLED, Scan

FEWEST_SCANS = 2


def training_scans(scans: Sequence[Scan]) -> list[Scan]:
    """The scans that training would use."""
    return [scan for scan in scans if scan.role == TRAIN and scan.trainable]


def scans_to_segment(scans: Sequence[Scan], model: str) -> list[Scan]:
    """The scans that Segment would segment: those without a result of this model; all, when each has one."""
    chosen = [scan for scan in scans if scan.role == SEGMENT]
    return [scan for scan in chosen if not scan.result_id or scan.result_model != model] or chosen


def scans_to_rank(scans: Sequence[Scan]) -> list[Scan]:
    """The scans without a label that are not left out: those that a model can rank for labelling."""
    return [scan for scan in scans if scan.role == SEGMENT and not scan.trainable]


def scan_to_preview(scans: Sequence[Scan], selected: str = "") -> Scan:
    """The scan to try a training on: the selected one, else one that it does not learn from, else any."""
    return min(scans, key=lambda scan: (scan.volume_id != selected, scan.role != SEGMENT))


def next_to_label(scans: Sequence[Scan], least_sure: Sequence[str] = ()) -> Scan | None:
    """The scan to label next: the one that the model is least sure of, else a doubtful result, else any without label.

    Args:
        scans: of the scene.
        least_sure: IDs of volumes, the least sure first, as far as they are known.
    """
    candidates = [scan for scan in scans if scan.role == SEGMENT]
    rank = {volume_id: place for place, volume_id in enumerate(least_sure)}
    return min(
        candidates,
        key=lambda scan: (rank.get(scan.volume_id, len(rank)), not scan.doubt, scan.state != UNLABELLED),
        default=None,
    )
