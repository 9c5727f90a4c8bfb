"""The table of scans: name, state, segmentation, and a list to choose each scan's role from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt

from ..scene.choices import LEAVE_OUT, ROLES, SEGMENT, TRAIN
from ..scene.scan_table import CORRECTED, FAILED, LABELLED, PARTLY, SEGMENTED, UNLABELLED, Scan
from ..translation import tr as _
from .tables import select_row, show_rows

_ROLE_COLUMN = 3


class ScanRows:
    """Fills a QTableWidget.

    Args:
        table: with four columns.
        chosen: called with a volume's ID and the role that the user chose.
    """

    def __init__(self, table: Any, chosen: Callable[[str, str], None]) -> None:
        self._table, self._chosen = table, chosen
        self._selectors: list[Any] = []
        self.ids: list[str] = []
        for column in (0, 2):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.Stretch)
        for column in (1, _ROLE_COLUMN):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)

    def show(self, scans: Sequence[Scan]) -> None:
        """Show the scans as they are now."""
        self.ids = [scan.volume_id for scan in scans]
        tips = ["\n".join(filter(None, (scan.name, scan.segmentation, scan.failure, *scan.doubts))) for scan in scans]
        show_rows(self._table, [(scan.name, _state(scan), scan.segmentation) for scan in scans], tips)
        while len(self._selectors) > len(scans):
            self._selectors.pop()
        while len(self._selectors) < len(scans):
            self._add_selector(len(self._selectors))
        for selector, scan in zip(self._selectors, scans, strict=True):
            if selector.currentIndex != ROLES.index(scan.role):
                selector.blockSignals(True)
                selector.currentIndex = ROLES.index(scan.role)
                selector.blockSignals(False)

    def select(self, volume_id: str) -> None:
        """Select the row of a volume; of one that is not there, none."""
        select_row(self._table, self.ids.index(volume_id) if volume_id in self.ids else None)

    def _add_selector(self, row: int) -> None:
        selector = qt.QComboBox()
        names = {TRAIN: _("train"), SEGMENT: _("segment"), LEAVE_OUT: _("leave out")}
        selector.addItems([names[role] for role in ROLES])
        selector.setToolTip(_("What to use this scan for."))

        def choose(index: int) -> None:
            if row < len(self.ids):
                self._chosen(self.ids[row], ROLES[index])

        selector.connect("currentIndexChanged(int)", choose)
        self._table.setCellWidget(row, _ROLE_COLUMN, selector)
        self._selectors.append(selector)


def _state(scan: Scan) -> str:
    names = {
        UNLABELLED: _("not labelled"),
        PARTLY: _("partly labelled"),
        LABELLED: _("labelled"),
        SEGMENTED: _("segmented"),
        CORRECTED: _("accepted"),
        FAILED: _("failed"),
    }
    return _("doubtful") if scan.doubts and scan.state == SEGMENTED else names[scan.state]
