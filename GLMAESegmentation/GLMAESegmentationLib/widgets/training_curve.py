"""The training curves as a picture, in the colours of the application's style."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import qt

from ..translation import tr as _

Curve = Sequence[tuple[float, float]]
_MARGIN = 4


def draw_curves(label: Any, loss: Curve, held_out: Curve, height: int = 70) -> None:
    """Draw the loss (thin) and the held-out Dice (thick), each over its own range, into a QLabel."""
    width = max(120, label.width - 2)
    pixmap = qt.QPixmap(width, height)
    palette = label.palette
    pixmap.fill(palette.color(qt.QPalette.Base))
    painter = qt.QPainter()
    painter.begin(pixmap)
    curves = (
        (_("loss {value:.2f}"), loss, qt.QPalette.Text, 1),
        (_("Dice {value:.2f}"), held_out, qt.QPalette.Link, 2),
    )
    line = painter.fontMetrics().height()
    for number, (title, curve, role, thickness) in enumerate(curves, start=1):
        pen = qt.QPen(palette.color(role))
        pen.setWidth(thickness)
        painter.setPen(pen)
        points = _places(curve, width, height)
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            painter.drawLine(x0, y0, x1, y1)
        if points:
            text = title.format(value=curve[-1][1])
            left = width - _MARGIN - painter.fontMetrics().horizontalAdvance(text)
            painter.drawText(left, number * line, text)
    painter.end()
    label.setPixmap(pixmap)


def _places(curve: Curve, width: int, height: int) -> list[tuple[int, int]]:
    if len(curve) < 2:
        return []
    steps, values = [point[0] for point in curve], [point[1] for point in curve]
    low, high = min(values), max(values)
    span, reach = (high - low) or 1.0, (steps[-1] - steps[0]) or 1.0
    return [
        (
            round(_MARGIN + (width - 2 * _MARGIN) * (step - steps[0]) / reach),
            round(height - _MARGIN - (height - 2 * _MARGIN) * (value - low) / span),
        )
        for step, value in curve
    ]
