"""Rows in the panel's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt


def show_rows(table: Any, rows: Sequence[Sequence[str]], tips: Sequence[str] = ()) -> None:
    """Put texts into a QTableWidget; the selection stays where it was."""
    table.setRowCount(len(rows))
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
    """A small square of a structure's colour."""
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor.fromRgbF(*(color or (0.5, 0.5, 0.5))))
    return qt.QIcon(pixmap)
