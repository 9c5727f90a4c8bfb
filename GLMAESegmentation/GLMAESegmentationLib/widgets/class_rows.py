"""The structures that were drawn, and what looks wrong with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

from ..jobs.label_findings import Finding
from ..messages import say
from ..scene.class_overview import ClassRow
from .tables import color_icon, show_rows


class ClassRows:
    """Fills a QTableWidget of three columns and a QListWidget."""

    def __init__(self, table: Any, findings: Any) -> None:
        self._table, self._findings = table, findings
        self._shown: tuple[Sequence[ClassRow], Sequence[Finding]] | None = None
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)

    def show(self, classes: Sequence[ClassRow], findings: Sequence[Finding]) -> None:
        """Show them as they are now; what has not changed is not touched."""
        self._table.visible = bool(classes)
        if self._shown == (classes, findings):
            return
        self._shown = (classes, findings)
        of = len({name for row in classes for name in (*row.ml, *row.missing)})
        rows = [
            (_full_name(row), say("labeled in", count=len(row.ml), n=of), _range(list(row.ml.values())))
            for row in classes
        ]
        tips = [
            "\n".join([row.terminology or row.name, *(f"{name}: {ml:.3g} mL" for name, ml in row.ml.items())])
            for row in classes
        ]
        show_rows(self._table, rows, tips)
        for number, row in enumerate(classes):
            self._table.item(number, 0).setIcon(color_icon(row.color))
        self._findings.visible = bool(findings)
        self._findings.blockSignals(True)
        self._findings.clear()
        self._findings.addItems([finding.sentence for finding in findings])
        self._findings.blockSignals(False)


def _full_name(row: ClassRow) -> str:
    meaning = row.terminology
    return f"{row.name} ({meaning})" if meaning and meaning.casefold() != row.name.casefold() else row.name


def _range(ml: list[float]) -> str:
    if not ml:
        return ""
    low, high = f"{min(ml):.3g}", f"{max(ml):.3g}"
    return f"{low} mL" if low == high else f"{low}-{high} mL"
