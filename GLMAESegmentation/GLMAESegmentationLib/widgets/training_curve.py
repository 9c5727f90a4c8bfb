"""The training curve as a picture, in the colors of the application's style."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import qt

from ..messages import say

Curve = Sequence[tuple[float, float]]
_MARGIN = 4


def draw_curve(label: Any, loss: Curve) -> None:
    """Draw the loss into a QLabel, a line over its own range."""
    top = label.fontMetrics().height() + _MARGIN  # the words stand above the curve
    width, height = max(120, label.width - 2), 5 * top
    pixmap = qt.QPixmap(width, height)
    palette = label.palette
    pixmap.fill(palette.color(qt.QPalette.Base))
    painter = qt.QPainter()
    painter.begin(pixmap)
    if len(loss) > 1:
        painter.setPen(palette.color(qt.QPalette.Text))
        for (x0, y0), (x1, y1) in itertools.pairwise(_line(loss, width, height - top)):
            painter.drawLine(x0, top + y0, x1, top + y1)
        painter.drawText(_MARGIN, top - _MARGIN, say("loss", value=loss[-1][1]))
    painter.end()
    label.setPixmap(pixmap)


def _line(curve: Curve, width: int, height: int) -> list[tuple[int, int]]:
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
