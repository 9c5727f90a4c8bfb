"""What is shown in the panel's tables and bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ctk
import qt


def show_rows(table: Any, rows: Sequence[Sequence[str]], tips: Sequence[str] = ()) -> None:
    """Put texts into a QTableWidget. What is selected then is for the caller to say, see `select_row`.

    Without signals: a row that is removed changes the selection from inside the removal, and whoever then fills the
    table again takes away what Qt is still at work on.
    """
    table.blockSignals(True)
    try:
        table.setRowCount(len(rows))
        _write(table, rows, tips)
    finally:
        table.blockSignals(False)


def select_row(table: Any, row: int | None) -> None:
    """Select a row, or none, without a signal."""
    rows = selected_rows(table)
    if row in rows and (table.currentRow() == row or table.currentRow() not in rows):  # one of several
        return
    table.blockSignals(True)
    table.clearSelection()
    if row is None:
        table.setCurrentCell(-1, -1)
    else:
        table.selectRow(row)
    table.blockSignals(False)


def selected_rows(table: Any) -> list[int]:
    """The selected rows, from top to bottom."""
    return sorted({index.row() for index in table.selectionModel().selectedRows()})


def selector(texts: Sequence[str], tip: str) -> Any:
    """A list to choose from in a row of a table. The mouse wheel scrolls the table and chooses nothing."""
    made = ctk.ctkComboBox()
    made.scrollWheelEffect = ctk.ctkComboBox.NeverScroll
    made.addItems(list(texts))
    made.setToolTip(tip)
    return made


def _write(table: Any, rows: Sequence[Sequence[str]], tips: Sequence[str]) -> None:
    for number, row in enumerate(rows):
        for column, text in enumerate(row):
            item = table.item(number, column)
            if item is None:
                item = qt.QTableWidgetItem()
                table.setItem(number, column, item)
            if item.text() != text:
                item.setText(text)
            item.setToolTip(tips[number] if number < len(tips) and tips[number] else text)


def color_icon(color: tuple[float, float, float] | None) -> Any:
    """A small square of a structure's color."""
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor.fromRgbF(*(color or (0.5, 0.5, 0.5))))
    return qt.QIcon(pixmap)


def show_fraction(bar: Any, fraction: float | None) -> None:
    """How much is over, in a QProgressBar that moves to and fro while the end is unknown."""
    bar.maximum = 0 if fraction is None else 1000
    bar.value = 0 if fraction is None else round(1000 * fraction)
