"""What should be held out for a forecast? Models of some of the labelled scans beside the finished one.

    python benchmarks/held_out.py --data DIR

For each set and seed the model of four labelled scans is trained, and with a third of its steps altogether those that a
way to hold out takes: two of half of the scans, two of three quarters, one of half, one of three quarters. All are
scored on the labelled scans, the finished one on further scans of the pool, too; no test scan is used. What each way
expects (`glmae.segmentation.held_out_score`) stands in the table beside what was measured on the further scans. Rows go
to benchmarks/results/held_out.json; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_set import DataSet, find_data_sets
from machine import describe_machine, use
from results_file import ResultsFile

from glmae.errors import GLMAEError
from glmae.scans.classes import ClassTable, SegmentClass
from glmae.segmentation.cross_validation import FoldResult
from glmae.segmentation.evaluation import Score, evaluate, report
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.folds import Fold
from glmae.segmentation.held_out_score import held_out_score, withheld
from glmae.segmentation.inference import segment

RESULTS = Path(__file__).resolve().parent / "results" / "held_out.json"
KEY = ("set", "seed", "model", "steps", "device", "threads")
LABELS, MOST_NEW = 4, 6
# Each model: which of the four labelled scans it is trained on, and its share of the finished model's steps.
MODELS: dict[str, tuple[tuple[int, ...], float]] = {
    "whole": ((0, 1, 2, 3), 1.0),
    "first half": ((0, 1), 1 / 6),
    "second half": ((2, 3), 1 / 6),
    "without the last": ((0, 1, 2), 1 / 6),
    "without the first": ((1, 2, 3), 1 / 6),
    "without the last, longer": ((0, 1, 2), 1 / 3),
    "first half, longer": ((0, 1), 1 / 3),
}
WAYS: dict[str, tuple[str, ...]] = {
    "two halves": ("first half", "second half"),
    "two quarters": ("without the last", "without the first"),
    "one half": ("first half, longer",),
    "one quarter": ("without the last, longer",),
}
Dice = Mapping[str, Mapping[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        results = ResultsFile(options.out, KEY)
        use(options.threads or torch.get_num_threads(), ())
        for data, seed, model in itertools.product(find_data_sets(options.data, options.sets), options.seeds, MODELS):
            row = {"set": data.name, "seed": seed, "model": model, "device": options.device}
            row |= {"steps": round(MODELS[model][1] * options.steps), "threads": torch.get_num_threads()}
            if row in results:
                continue
            row |= trained(data, seed, model, row["steps"], options.device)
            results.add(row, describe_machine(options.device))
            print(f"{data.name}, seed {seed}, {model}: done", flush=True)
        print("\n".join(table(results.rows)))
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def trained(data: DataSet, seed: int, model: str, steps: int, device: str) -> dict[str, Any]:
    """Train one model and segment the labelled scans, and for the finished one further scans of the pool."""
    scans = list(data.labelled(seed, LABELS) or ())
    training = [scans[index] for index in MODELS[model][0]]
    others = [name for name in sorted(data.pool(seed)) if name not in scans and data.has_label(name)]
    new = others[:MOST_NEW] if model == "whole" else []
    with tempfile.TemporaryDirectory(prefix="held-out-", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        finetune(
            images=data.images,
            labels=data.labels,
            out=work / "model",
            cases=tuple(training),
            steps=steps,
            minutes=None,
            seed=seed,
            device=device,
            settings={"validation": 0},
        )
        images = [data.image(name) for name in [*scans, *new]]
        segment(model=work / "model", images=images, out=work / "predictions", file_format="nii.gz", device=device)
        evaluate(predictions=work / "predictions", labels=data.labels, out=work / "report.json")
        scores = json.loads((work / "report.json").read_text(encoding="utf-8"))["cases"]
    dice: dict[str, dict[str, float]] = {name: {} for name in [*scans, *new]}
    for score in scores:
        if score["dice"] is not None:
            dice[score["case"]][score["class"]] = round(score["dice"], 4)
    return {"training": training, "labelled": scans, "new": new, "dice": dice}


def forecast(models: Mapping[str, Mapping[str, Any]], way: str) -> dict[str, Any]:
    """What the finished model would expect of itself, had this way been taken.

    Args:
        models: rows by `model`, of one set and seed.
        way: of `WAYS`.

    Returns:
        `scores` of model.json; `mean_dice` is null where it would be withheld.
    """
    whole = models["whole"]
    scans = list(whole["labelled"])
    results = []
    for number, name in enumerate(WAYS[way]):
        row = models[name]
        training = tuple(scans.index(scan) for scan in row["training"])
        fold = Fold(training, tuple(index for index in range(len(scans)) if index not in training))
        learnt = {name for index in training for name in row["dice"][scans[index]]}
        held_out = [score for score in _scores(row["dice"], scans, fold.held_out) if score.name in learnt]
        seen = _scores(row["dice"], scans, [fold.seen(number)])
        results.append(FoldResult(fold, row["steps"], tuple(held_out), tuple(seen), 0.0))
    names = sorted({name for scores in whole["dice"].values() for name in scores})
    classes = ClassTable(tuple(SegmentClass(index + 1, name) for index, name in enumerate(names)))
    tried = sorted({int(score.case) for result in results for score in result.seen})
    seen = _scores(whole["dice"], scans, tried)
    return withheld(
        held_out_score(results, seen, classes, scans=len(scans), steps=whole["steps"], without="no scan was held out")
    )


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table: each set and seed with what each way expects; then the mean difference of each way."""
    lines = [
        "| set | seed | measured | " + " | ".join(WAYS) + " |",
        "|---" * (3 + len(WAYS)) + "|",
    ]
    differences: dict[str, list[float]] = {way: [] for way in WAYS}
    held: dict[str, int] = dict.fromkeys(WAYS, 0)
    runs = 0
    for name, seed in sorted({(row["set"], row["seed"]) for row in rows}):
        models = {row["model"]: row for row in rows if (row["set"], row["seed"]) == (name, seed)}
        if set(models) != set(MODELS):
            continue
        runs += 1
        whole = models["whole"]
        measured = report(_scores(whole["dice"], whole["new"], range(len(whole["new"]))))["mean_dice"]
        cells = []
        for way in WAYS:
            scores = forecast(models, way)
            if scores["mean_dice"] is None:
                cells.append(f"withheld ({scores['held_out_mean_dice']:.3f} held out)")
                continue
            low, high = scores["interval"]
            differences[way].append(scores["mean_dice"] - measured)
            held[way] += low <= measured <= high
            cells.append(f"{scores['mean_dice']:.3f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {name} | {seed} | {measured:.3f} | " + " | ".join(cells) + " |")
    cells = [
        f"{len(found)} of {runs} said, {100 * np.mean(found):+.1f}, apart {100 * np.mean(np.abs(found)):.1f}, "
        f"{held[way]} within"
        if found
        else f"0 of {runs} said"
        for way, found in differences.items()
    ]
    return [*lines, "| all | | | " + " | ".join(cells) + " |"]


def _scores(dice: Dice, scans: Sequence[str], indices: Sequence[int]) -> list[Score]:
    return [
        Score(str(index), name, value, None, 0.0) for index in indices for name, value in dice[scans[index]].items()
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare ways to hold out labelled scans.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with one folder a set")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument(
        "--steps", type=int, default=360, metavar="N", help="of the finished model; default: %(default)s"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: as many as torch takes")
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
