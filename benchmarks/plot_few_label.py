"""Tables and plots of few_label.json: `python benchmarks/plot_few_label.py` writes docs/few_label.md and its plots."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from few_label import RESULTS
from methods import METHODS
from result_rows import Row, only, spread
from results_file import machine_key

from glmae.errors import GLMAEError, RequestError
from glmae.files import writing

DOCS = Path(__file__).resolve().parent.parent / "docs"
OURS = ("glmae", "glmae_scratch", "glmae_instant")
ORDER = tuple(METHODS)
RESAMPLINGS = 2000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make tables and plots of the few-label benchmark.")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        content = _read(options.results)
        # Rows of other settings than the methods' own belong to tuning.
        rows = _fullest([row for row in content["rows"] if not row.get("settings")])
        if not rows:
            raise RequestError(f"{options.results} holds no rows yet; run benchmarks/few_label.py first")
        text = page(rows, content["machine"])
        writing(options.out / "few_label.md", lambda path: path.write_text(text, encoding="utf-8"))
        for axis in ("labels", "minutes"):
            plot(rows, axis, options.out / f"few_label_{axis}.png")
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def page(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    """All tables, one section for each device, number of threads and of minutes."""
    lines = [
        "# Few labels: the results",
        "",
        "Made by `benchmarks/plot_few_label.py` from `benchmarks/results/few_label.json`. Dice is the mean over the "
        "test scans of the mean over the classes, then mean ± standard deviation over the seeds (their number in "
        "brackets). 95 % Hausdorff distance (mm) is over the classes that were found. Seconds are training and, after "
        "the plus, segmenting one scan. In the plots, the points of a line are means over the seeds that all of them "
        "have.",
        "",
        "![Dice over labels](few_label_labels.png)",
    ]
    if len(_values(rows, "minutes")) > 1:
        lines += ["", "![Dice over minutes](few_label_minutes.png)"]
    for device, threads, minutes in _values(rows, "device", "threads", "minutes"):
        chosen = only(rows, device=device, threads=threads, minutes=minutes)
        where = machine_key(device, threads)
        about = machine.get(where, {})
        processor = about.get("gpu") or about.get("processor", device)
        lines += ["", f"## {minutes:g} minutes on {where}", "", f"{processor}; torch {about.get('torch', '?')}."]
        for (name,) in _values(chosen, "set"):
            lines += ["", f"### {name}", "", *_table(only(chosen, set=name))]
        lines += ["", "### Mean over the sets", "", *_overall(chosen)]
        comparison = _comparison(chosen)
        if comparison:
            lines += ["", "### Ours against each peer", "", *comparison]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| labels | method | Dice | HD95 | not found | seconds | peak MB |", "|---|---|---|---|---|---|---|"]
    for labels, method in _values(rows, "labels", "method"):
        cell = only(rows, labels=labels, method=method)
        seconds = f"{_mean(cell, 'seconds'):.0f} + " + f"{np.mean([_per_scan(row) for row in cell]):.1f}"
        missing = sum(row.get("hd95_missing") or 0 for row in cell)
        lines.append(
            f"| {labels} | {method} | {spread(cell)} | {_number(_mean(cell, 'hd95_mm'), 1)} | {missing} | {seconds} "
            f"| {_number(_mean(cell, 'peak_mb'), 0)} |"
        )
    return lines


def _overall(rows: Sequence[Row]) -> list[str]:
    """Mean Dice over the sets by labels, of the methods that have every set and seed that any other has."""
    lines = ["| labels | sets | method | Dice |", "|---|---|---|---|"]
    for (labels,) in _values(rows, "labels"):
        here = only(rows, labels=labels)
        cells = _values(here, "set", "seed")
        for (method,) in _values(here, "method"):
            own = only(here, method=method)
            if _values(own, "set", "seed") == cells and all(row["dice"] is not None for row in own):
                sets = [name for (name,) in _values(own, "set")]
                mean = np.mean([_mean(only(own, set=name), "dice") for name in sets])
                lines.append(f"| {labels} | {len(sets)} | {method} | {mean:.3f} |")
    return lines


def _comparison(rows: Sequence[Row]) -> list[str]:
    """Differences in Dice points (hundredths) on the same scans, with a paired bootstrap interval."""
    methods = [method for (method,) in _values(rows, "method")]
    lines = []
    for ours in (name for name in OURS if name in methods):
        for peer in (name for name in methods if name not in OURS):
            for name, labels in _values(rows, "set", "labels"):
                both = only(rows, set=name, labels=labels)
                gain = _paired(only(both, method=ours), only(both, method=peer))
                if len(gain):
                    low, high = interval(gain)
                    mean = 100 * float(np.mean(gain))
                    text = f"{mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
                    lines.append(f"| {name} | {labels} | {ours} | {peer} | {text} | {len(gain)} |")
    if not lines:
        return []
    heading = [
        "Dice points more than the peer on the same test scans, mean over the same seeds, with the 95 % interval of a "
        "paired bootstrap over scans.",
        "",
        "| set | labels | ours | peer | difference | scans |",
        "|---|---|---|---|---|---|",
    ]
    return heading + lines


def _paired(ours: Iterable[Row], peers: Iterable[Row]) -> list[float]:
    """Differences in Dice, one a test scan: the mean over the runs that differ in the method only."""
    dice = {(row["seed"], name): value for row in peers for name, value in _by_scan(row)}
    gains: dict[str, list[float]] = {}
    for row in ours:
        for name, value in _by_scan(row):
            other = dice.get((row["seed"], name))
            if value is not None and other is not None:
                gains.setdefault(name, []).append(value - other)
    return [float(np.mean(values)) for values in gains.values()]


def _by_scan(row: Row) -> list[tuple[str, float | None]]:
    return list(zip(row["cases"], row["per_case"], strict=True))


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean."""
    values = np.asarray(differences)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLINGS, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def plot(rows: Sequence[Row], axis: str, path: Path) -> None:
    """Dice over `labels` (at the minutes with most rows) or over `minutes` (at the labels with most), a panel a set."""
    fixed = "minutes" if axis == "labels" else "labels"
    names = ("device", "threads", fixed)
    shared = max(_values(rows, *names), key=lambda at: len(only(rows, **dict(zip(names, at, strict=True)))))
    chosen = only(rows, **dict(zip(names, shared, strict=True)))
    sets = [name for (name,) in _values(chosen, "set")]
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(sets), figsize=(3.4 * len(sets) + 1.6, 3.6), squeeze=False, layout="constrained"
    )
    for panel, name in zip(panels[0], sets, strict=True):
        here = only(chosen, set=name)
        for number, method in enumerate(ORDER):
            points = [(x, only(here, method=method, **{axis: x})) for (x,) in _values(here, axis)]
            points = _of_same_seeds([(x, cell) for x, cell in points if cell])
            if points:
                dice = [[row["dice"] for row in cell if row["dice"] is not None] for _, cell in points]
                panel.errorbar(
                    [x for x, _ in points],
                    [np.mean(values) for values in dice],
                    yerr=[np.std(values) for values in dice],
                    label=method,
                    color=f"C{number}",
                    linewidth=2.2 if method in OURS else 1.2,
                    marker="o",
                    markersize=4,
                    capsize=2,
                )
        panel.set(title=name, xlabel=axis, xscale="log")
        ticks = [x for (x,) in _values(here, axis)]
        panel.set_xticks(ticks, [f"{x:g}" for x in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("Dice")
    handles = {label: handle for p in panels[0] for handle, label in zip(*p.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    figure.suptitle(f"{fixed}: {shared[2]:g}; {machine_key(*shared[:2])}")
    writing(path, lambda file: figure.savefig(file, dpi=120))
    pyplot.close(figure)


def _of_same_seeds(points: Sequence[tuple[float, list[Row]]]) -> list[tuple[float, list[Row]]]:
    """Of a line's points the rows of the seeds that all of them have, where there are any: others show no trend."""
    shared = set.intersection(*({row["seed"] for row in cell} for _, cell in points)) if points else set()
    return [(x, [row for row in cell if row["seed"] in shared] if shared else cell) for x, cell in points]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read; run benchmarks/few_label.py first") from error


def _fullest(rows: Sequence[Row]) -> list[Row]:
    """Of each set and seed the rows with most test scans: what was scored on fewer cannot be compared with them."""
    most: dict[tuple[str, int], int] = {}
    for row in rows:
        at = row["set"], row["seed"]
        most[at] = max(most.get(at, 0), row["test_scans"])
    return [row for row in rows if row["test_scans"] == most[row["set"], row["seed"]]]


def _values(rows: Iterable[Row], *names: str) -> list[tuple[Any, ...]]:
    """The different values of some fields, in order; methods in the order of the comparison."""
    found = {tuple(row[name] for name in names) for row in rows}
    return sorted(found, key=lambda values: [ORDER.index(v) if v in ORDER else v for v in values])


def _mean(rows: Iterable[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(known)) if known else None


def _per_scan(row: Row) -> float:
    return float((row.get("segment_seconds") or 0.0) / max(1, len(row["per_case"])))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
