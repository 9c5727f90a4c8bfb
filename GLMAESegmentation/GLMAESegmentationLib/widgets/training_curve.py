"""The training curves as a picture, in the colors of the application's style."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import qt

from ..translation import tr as _

Curve = Sequence[tuple[float, float]]
_MARGIN, _DOT = 4, 3


def draw_curves(label: Any, loss: Curve, held_out: Curve) -> None:
    """Draw into a QLabel the loss, a line over its own range, and the Dice of each part held out, dots from 0 to 1."""
    top = label.fontMetrics().height() + _MARGIN  # the words stand above the curves
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
        painter.drawText(_MARGIN, top - _MARGIN, _("loss {value:.2f}").format(value=loss[-1][1]))
    if held_out:
        painter.setPen(palette.color(qt.QPalette.Link))
        painter.setBrush(palette.color(qt.QPalette.Link))
        for x, y in _dots([dice for _fold, dice in held_out], width, height - top):
            painter.drawEllipse(x - _DOT, top + y - _DOT, 2 * _DOT, 2 * _DOT)
        mean = sum(dice for _fold, dice in held_out) / len(held_out)
        words = _("held-out Dice {value:.2f}").format(value=mean)
        painter.drawText(width - _MARGIN - painter.fontMetrics().horizontalAdvance(words), top - _MARGIN, words)
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


def _dots(values: Sequence[float], width: int, height: int) -> list[tuple[int, int]]:
    """Side by side."""
    side = _MARGIN + _DOT
    return [
        (
            round(width * (number + 0.5) / len(values)),
            round(height - side - (height - 2 * side) * min(1.0, max(0.0, value))),
        )
        for number, value in enumerate(values)
    ]
