"""Tables and plots of segment.json: `python benchmarks/plot_segment.py` writes docs/segment.md and its plot."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from measurement import METHODS
from result_rows import Row, only
from results_file import machine_key
from segment import RESULTS

from glmae.errors import GLMAEError, RequestError
from glmae.files import writing

DOCS = Path(__file__).resolve().parent.parent / "docs"
COLUMNS = (
    *("case", "classes", "method", "precision", "seconds", "ours is faster"),
    *("floor", "windows", "RSS MB", "GPU MB", "Dice", "Dice to float32"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make tables and plots of the benchmark of one volume.")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        content = _read(options.results)
        if not content["rows"]:
            raise RequestError(f"{options.results} holds no rows yet; run benchmarks/segment.py first")
        text = page(content["rows"], content["machine"])
        writing(options.out / "segment.md", lambda path: path.write_text(text, encoding="utf-8"))
        for device in _values(content["rows"], "device"):
            plot(only(content["rows"], device=device), options.out / f"segment_{device}.png")
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def page(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    """One table a device."""
    lines = [
        "# Segmenting one volume: the results",
        "",
        "Made by `benchmarks/plot_segment.py` from `benchmarks/results/segment.json`. Seconds are from the file of the "
        "scan to the file of the labels; for `monai_unetr48`, of its windows alone, some of which are timed. The floor "
        "is that of the windows that the method computes. Dice of ours is to MONAI's sliding window on the same "
        "network in the same precision, of MONAI's to itself in float32. Two ways to compute one network in bfloat16 "
        "round in different places; the last column shows that both are equally far from float32.",
    ]
    for device in _values(rows, "device"):
        about = machine.get(machine_key(device, only(rows, device=device)[-1]["threads"]), {})
        threads = about.get("threads", "?")
        where = f"{about.get('gpu') or about.get('processor', device)}, {threads} thread{'' if threads == 1 else 's'}"
        lines += ["", f"## {device}", "", f"{where}; torch {about.get('torch', '?')}.", ""]
        lines += [
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
        ]
        chosen = sorted(only(rows, device=device), key=lambda row: (row["voxels"], row["case"], row["classes"]))
        for row in chosen:
            ours = only(chosen, case=row["case"], classes=row["classes"], method="glmae")
            lines.append(_line(row, ours[0] if ours else None))
    return "\n".join(lines) + "\n"


def _line(row: Row, ours: Row | None) -> str:
    seconds = row["seconds"]
    times = "–"
    if ours and ours is not row and seconds and ours["seconds"]:
        times = f"{seconds / ours['seconds']:.1f} times"
    cells = [
        row["case"],
        row["classes"],
        row["method"],
        row["precision"],
        "does not fit" if seconds is None else f"{seconds:.1f}",
        times,
        _number(row["floor_seconds"], 1),
        f"{row['computed_windows'] or '–'} of {row['windows']}",
        _number(row["peak_rss_mb"], 0),
        _number(row["peak_device_mb"], 0),
        _number(row["dice_to_reference"], 4),
        _number(row.get("dice_to_float32"), 4),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Time and memory over the voxels, one line for each method, precision and number of classes."""
    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    measure = "peak_device_mb" if any(row["peak_device_mb"] for row in rows) else "peak_rss_mb"
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, name in zip(panels, ("seconds", measure), strict=True):
        lines = {(row["method"], row["precision"], row["classes"]) for row in rows}
        for method, kind, classes in sorted(lines, key=lambda line: (METHODS.index(line[0]), *map(str, line))):
            own = only(rows, method=method, precision=kind, classes=classes)
            points = sorted((row["voxels"], row[name]) for row in own if row[name] and row["seconds"])
            if points:
                panel.plot(
                    [x / 1e6 for x, _ in points],
                    [y for _, y in points],
                    label=f"{method}, {kind}, {classes} classes",
                    color=f"C{METHODS.index(method)}",
                    linestyle="-" if kind != "float32" else ":",
                    linewidth=1 + (classes > 10),
                    marker="o",
                    markersize=3,
                )
        panel.set(xlabel="million voxels", xscale="log", yscale="log")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        panel.set_title("seconds" if name == "seconds" else "peak memory, MB")
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    writing(path, lambda file: figure.savefig(file, dpi=120))
    pyplot.close(figure)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read; run benchmarks/segment.py first") from error


def _values(rows: Iterable[Row], name: str) -> list[Any]:
    return sorted({row[name] for row in rows})


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
