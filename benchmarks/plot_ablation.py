"""Tables and plots of the ablation: `python benchmarks/plot_ablation.py` writes docs/ablation.md and its pictures.

Equal time is read from benchmarks/results/ablation.json, equal steps, where they were run, from ablation_steps.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from ablation import RESULTS, VARIANTS
from result_rows import Row, only, spread

from glmae.errors import GLMAEError, RequestError
from glmae.files import writing

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCRATCH = "scratch"
# What makes rows comparable with each other.
SETTING = ("device", "threads", "pretrain_minutes", "finetune_steps", "test_scans")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all files are written."""
    parser = argparse.ArgumentParser(description="Make tables and plots of the ablation.")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE", help="of equal time; equal steps beside it"
    )
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        parts = {"ablation": read_rows(options.results)}
        equal_steps = options.results.with_name("ablation_steps.json")
        if equal_steps.exists():
            parts["ablation_steps"] = read_rows(equal_steps)
        text = page(parts)
        writing(options.out / "ablation.md", lambda path: path.write_text(text, encoding="utf-8"))
        plot(parts["ablation"], options.out / "ablation.png")
        if "ablation_steps" in parts:
            plot(parts["ablation_steps"], options.out / "ablation_steps.png")
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def read_rows(path: Path) -> list[Row]:
    """The rows of the setting that most were made with.

    Raises:
        RequestError: there are none.
    """
    try:
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{path} cannot be read; run benchmarks/ablation.py first") from error
    if not rows:
        raise RequestError(f"{path} holds no rows yet; run benchmarks/ablation.py first")
    settings = [tuple(row[name] for name in SETTING) for row in rows]
    most = max(settings, key=settings.count)
    return [row for row, setting in zip(rows, settings, strict=True) if setting == most]


def page(parts: Mapping[str, Sequence[Row]]) -> str:
    """The page; `parts` gives the rows of `ablation`, equal time, and of `ablation_steps`, equal steps, if any."""
    rows = parts["ablation"]
    device, threads, minutes, steps, scans = (rows[0][name] for name in SETTING)
    lines = [
        "# Which part of the pre-training helps?",
        "",
        "Made by `benchmarks/plot_ablation.py` from `benchmarks/results/ablation.json`. A backbone is pre-trained for "
        f"{minutes:g} minutes ({device}, {threads} thread) on the images of a set's pool; fine-tuning has {steps} "
        f"steps and no folds; Dice is of the first {scans} test scans, mean ± standard deviation over the seeds (their "
        "number in brackets). The second number is the Dice of the same model when its transformer's tokens are set to "
        "zero: what is left of it does not come from the transformer.",
        "",
        "![Dice points over training from scratch](ablation.png)",
        "",
        *tables(rows),
    ]
    equal = parts.get("ablation_steps")
    if equal:
        lines += [
            "",
            "## At equal steps",
            "",
            "The same from `benchmarks/results/ablation_steps.json`, whose rows were all made anew, scratch and glmae "
            f"too: glmae is pre-trained for {equal[0]['pretrain_minutes']:g} minutes, and each variant with `_steps` "
            "for as many steps as glmae reached on that set, which takes the simpler ones less time. The linear probe "
            "is the Dice of a linear head on the frozen backbone's tokens (`benchmarks/linear_probe.py`).",
            "",
            "![Dice points over training from scratch](ablation_steps.png)",
            "",
            *tables(equal),
        ]
    return "\n".join(lines) + "\n"


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Lines: Dice of each set, number of labels and variant; what each variant gains over scratch."""
    # Rows made before there was a linear probe have none.
    probed = all("probe_dice" in row for row in rows)
    yield f"| set | labels | variant | steps of pre-training | Dice | without tokens |{' linear probe |' * probed}"
    yield f"|---|---|---|---|---|---|{'---|' * probed}"
    for name, labels in cells(rows):
        for variant in variants(rows):
            cell = only(rows, set=name, labels=labels, variant=variant)
            if cell:
                done = cell[0]["pretrain_steps"] or "–"
                dice, zeroed = spread(cell, "dice"), spread(cell, "zeroed_dice")
                probe = f" {spread(cell, 'probe_dice')} |" if probed else ""
                yield f"| {name} | {labels} | {variant} | {done} | {dice} | {zeroed} |{probe}"
    yield ""
    yield (
        "Dice points over training from scratch with the same set, labels and seed: mean over the pairs, and their "
        "standard deviation."
    )
    yield ""
    yield "| variant | 1 label | 2 labels | all | pairs |"
    yield "|---|---|---|---|---|"
    for variant in variants(rows):
        if variant != SCRATCH:
            parts = [gains(only(rows, labels=labels), variant) for labels in (1, 2)]
            every = gains(rows, variant)
            yield f"| {variant} | {' | '.join(map(_points, [*parts, every]))} | {len(every)} |"


def gains(rows: Sequence[Row], variant: str) -> list[float]:
    """Dice points more than from scratch, one for each set, number of labels and seed that has both."""
    scratch = {(row["set"], row["labels"], row["seed"]): row["dice"] for row in only(rows, variant=SCRATCH)}
    own = {(row["set"], row["labels"], row["seed"]): row["dice"] for row in only(rows, variant=variant)}
    return [100 * (dice - scratch[at]) for at, dice in own.items() if at in scratch]


def plot(rows: Sequence[Row], path: Path) -> None:
    """The gains over training from scratch, a point for each seed, a panel for each set and number of labels."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [variant for variant in variants(rows) if variant != SCRATCH]
    panels_of = cells(rows)
    figure, panels = pyplot.subplots(
        1, len(panels_of), figsize=(2.6 * len(panels_of) + 1, 3.4), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, (name, labels) in zip(panels[0], panels_of, strict=True):
        for place, variant in enumerate(shown):
            points = gains(only(rows, set=name, labels=labels), variant)
            if points:
                panel.plot([place] * len(points), points, "o", color=f"C{place}", alpha=0.6)
                panel.plot([place - 0.3, place + 0.3], [np.mean(points)] * 2, color=f"C{place}", linewidth=2)
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.set_xticks(range(len(shown)), shown, rotation=45, ha="right")
        panel.set_title(f"{name}, {labels} label{'s' if labels > 1 else ''}", fontsize=9)
        panel.grid(axis="y", alpha=0.3)
    panels[0][0].set_ylabel("Dice points over scratch")
    writing(path, lambda file: figure.savefig(file, dpi=120))
    pyplot.close(figure)


def cells(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Sets and numbers of labels."""
    return sorted({(row["set"], row["labels"]) for row in rows})


def variants(rows: Iterable[Row]) -> list[str]:
    """Those that have rows, in the order of their terms."""
    found = {row["variant"] for row in rows}
    return [variant for variant in VARIANTS if variant in found]


def _points(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.1f}{spread}"


if __name__ == "__main__":
    sys.exit(main())
