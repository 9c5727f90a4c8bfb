"""The table of scans: name, status, the label that counts where there are several, and what each scan is used for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt

from ..jobs.queue import RUNNING, WAITING, QueuedScan
from ..messages import say
from ..scene.choices import ROLES
from ..scene.scan_table import FAILED, SEGMENTED, Scan
from .tables import select_row, selected_rows, selector, show_rows

_STATUS_COLUMN, _LABEL_COLUMN, _ROLE_COLUMN = 1, 2, 3


class ScanRows:
    """Fills a QTableWidget.

    Args:
        table: with four columns.
        chose_role: called with the IDs of volumes and the role that the user chose for them.
        chose_label: called with a volume's ID and that of the segmentation that the user chose.
    """

    def __init__(
        self, table: Any, chose_role: Callable[[list[str], str], None], chose_label: Callable[[str, str], None]
    ) -> None:
        self._table, self._chose_role, self._chose_label = table, chose_role, chose_label
        self._roles: list[Any] = []
        self._labels: dict[int, tuple[Any, tuple[tuple[str, str], ...]]] = {}
        self.ids: list[str] = []
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (_STATUS_COLUMN, _LABEL_COLUMN, _ROLE_COLUMN):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)

    def show(self, scans: Sequence[Scan], queue: Sequence[QueuedScan] = ()) -> None:
        """Show the scans as they are now, those of the queue as far as they are."""
        self.ids = [scan.volume_id for scan in scans]
        queued = {scan.volume_id: scan for scan in queue}
        rows = [(scan.name, _status(scan, queued), "") for scan in scans]
        tips = ["\n".join(filter(None, (scan.name, scan.segmentation, scan.failure, *scan.doubts))) for scan in scans]
        show_rows(self._table, rows, tips)
        for row, scan in enumerate(scans):
            odd = scan.state == FAILED or (scan.state == SEGMENTED and scan.doubts)
            icon = qt.QApplication.style().standardIcon(qt.QStyle.SP_MessageBoxWarning) if odd else qt.QIcon()
            self._table.item(row, _STATUS_COLUMN).setIcon(icon)
        self._show_labels(scans)
        del self._roles[len(scans) :]
        while len(self._roles) < len(scans):
            self._add_role(len(self._roles))
        for roles, scan in zip(self._roles, scans, strict=True):
            if roles.currentIndex != ROLES.index(scan.role):
                roles.blockSignals(True)
                roles.currentIndex = ROLES.index(scan.role)
                roles.blockSignals(False)

    @property
    def selected(self) -> list[str]:
        """IDs of the volumes of the selected rows."""
        return [self.ids[row] for row in selected_rows(self._table) if row < len(self.ids)]

    def select(self, volume_id: str) -> None:
        """Select the row of a volume; of one that is not there, none."""
        select_row(self._table, self.ids.index(volume_id) if volume_id in self.ids else None)

    def _show_labels(self, scans: Sequence[Scan]) -> None:
        """A list where a scan has several segmentations; the first is the one that counts."""
        wanted = {row: scan.candidates for row, scan in enumerate(scans) if len(scan.candidates) > 1}
        self._table.setColumnHidden(_LABEL_COLUMN, not wanted)
        for row in [row for row, (_widget, shown) in self._labels.items() if wanted.get(row) != shown]:
            del self._labels[row]
            if row < len(scans):
                self._table.removeCellWidget(row, _LABEL_COLUMN)
        for row, candidates in wanted.items():
            if row not in self._labels:
                labels = selector([name for _node, name in candidates], say("label tip"))
                labels.connect("activated(int)", self._choosing_label(row))
                self._table.setCellWidget(row, _LABEL_COLUMN, labels)
                self._labels[row] = labels, candidates

    def _choosing_label(self, row: int) -> Callable[[int], None]:
        return lambda index: self._chose_label(self.ids[row], self._labels[row][1][index][0])

    def _add_role(self, row: int) -> None:
        roles = selector([say(f"role {role}") for role in ROLES], say("role tip"))

        def choose(index: int) -> None:
            if row < len(self.ids):
                rows = selected_rows(self._table)
                self._chose_role([self.ids[each] for each in (rows if row in rows else [row])], ROLES[index])

        roles.connect("currentIndexChanged(int)", choose)
        self._table.setCellWidget(row, _ROLE_COLUMN, roles)
        self._roles.append(roles)


def _status(scan: Scan, queued: Mapping[str, QueuedScan]) -> str:
    waiting = queued.get(scan.volume_id)
    if waiting is not None and waiting.state in (WAITING, RUNNING):
        return say(f"status {waiting.state}")
    if scan.state == SEGMENTED and (scan.doubts or scan.proposal):
        return say("status doubtful" if scan.doubts else "status proposal")
    return say(f"status {scan.state}")
