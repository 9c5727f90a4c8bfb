"""Rows of a results file: those that are meant, and their Dice in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]


def only(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def spread(rows: Sequence[Row], name: str = "dice") -> str:
    """Mean, standard deviation and number of a value, in the rows that know it."""
    values = [row[name] for row in rows if row[name] is not None]
    if not values:
        return "–"
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation} ({len(values)})"
