"""Whether models say honestly how well they do: the Dice they expect beside the Dice on the test scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# The mean expected Dice is to be within this of the mean Dice on the test scans.
TOLERANCE = 0.03
Row = Mapping[str, Any]


def forecasts(rows: Iterable[Row]) -> list[Row]:
    """The runs that expected a Dice; with one labelled scan none is expected."""
    return [row for row in rows if row.get("predicted_dice") is not None and row["dice"] is not None]


def optimism(rows: Sequence[Row]) -> float:
    """Mean of expected minus measured Dice over runs that expected one."""
    return float(np.mean([row["predicted_dice"] - row["dice"] for row in rows]))


def table(rows: Iterable[Row]) -> list[str]:
    """Lines of a table, a line for each set and number of labels and one for all; none where no run expected a Dice."""
    runs = forecasts(rows)
    if not runs:
        return []
    lines = [
        "The Dice that models expect of themselves, from held-out scans, minus the Dice on the test scans, in points, "
        "mean over the runs; and how many of the stated intervals hold the Dice on the test scans.",
        "",
        "| set | labels | runs | expected | measured | difference | within the interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, labels in sorted({(row["set"], row["labels"]) for row in runs}):
        lines.append(_line(name, labels, [row for row in runs if (row["set"], row["labels"]) == (name, labels)]))
    return [*lines, _line("all", "", runs)]


def _line(name: str, labels: int | str, runs: Sequence[Row]) -> str:
    expected, measured = (float(np.mean([row[key] for row in runs])) for key in ("predicted_dice", "dice"))
    stated = [row for row in runs if row.get("predicted_interval")]
    held = sum(row["predicted_interval"][0] <= row["dice"] <= row["predicted_interval"][1] for row in stated)
    within = f"{held} of {len(stated)}" if stated else "–"
    numbers = f"{expected:.3f} | {measured:.3f} | {100 * optimism(runs):+.1f}"
    return f"| {name} | {labels} | {len(runs)} | {numbers} | {within} |"
