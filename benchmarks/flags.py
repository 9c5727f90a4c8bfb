"""Do the flags of a batch find the cases with a Dice under 0.6? Precision and recall on labelled test scans.

    python benchmarks/flags.py --data DIR [--sets ...] [--labels 1 4] [--seeds 0 1] [--minutes 1]

A model is trained on each set with the defaults that a user gets, and segments the test scans; the flags in its report
are compared with the scores. Rows go to benchmarks/results/flags.json; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from data_set import find_data_sets
from few_label import planned
from flag_scores import BAD, flag_scores
from machine import describe_machine
from ours import backbone_is_shipped, run
from results_file import ResultsFile
from task import Task

from glmae.devices import choose_device
from glmae.errors import GLMAEError
from glmae.segmentation.evaluation import evaluate

RESULTS = Path(__file__).resolve().parent / "results" / "flags.json"
KEY = ("set", "labels", "seed", "method", "minutes", "device", "threads", "test_scans")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some failed, each named; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        sets = find_data_sets(options.data, options.sets)
        results = ResultsFile(options.out, KEY)
        device = choose_device(options.device)[0].type
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    method = "glmae" if backbone_is_shipped() else "glmae_scratch"
    failures = 0
    for data, labels, seed, _ in planned(sets, options.labels, options.seeds, [method]):
        test = data.test(seed, options.test_scans)
        row = {"set": data.name, "labels": labels, "seed": seed, "method": method, "minutes": options.minutes}
        row |= {"device": device, "threads": torch.get_num_threads(), "test_scans": len(test)}
        if row in results:
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="flags-", ignore_cleanup_errors=True) as work:
                task = Task(
                    set_folder=str(data.folder),
                    labelled=data.labelled(seed, labels) or (),
                    pool=tuple(name for name in data.pool(seed) if name not in test),
                    test=test,
                    work=work,
                    **{name: row[name] for name in ("labels", "seed", "method", "minutes", "device", "threads")},
                )
                content = _scored(task)
        except GLMAEError as error:
            failures += 1
            print(f"{data.name}, {labels} labels, seed {seed}: {error}", file=sys.stderr, flush=True)
            continue
        results.add(row | {"bad_below": BAD} | content, describe_machine(device))
        found = content["classes"]
        print(
            f"{data.name}, {labels} labels, seed {seed}: {found['bad']} of {found['count']} structures under {BAD}, "
            f"precision {found['precision']}, recall {found['recall']}",
            flush=True,
        )
    return 1 if failures else 0


def _scored(task: Task) -> dict[str, object]:
    """Train, segment, score, compare."""
    run(task)
    scores = Path(task.work) / "scores.json"
    evaluate(predictions=task.predictions, labels=task.data.labels, out=scores)
    report = task.predictions / "report" / "report.json"
    read = [json.loads(path.read_text(encoding="utf-8")) for path in (report, scores)]
    return {"dice": read[1]["mean_dice"], **flag_scores(read[0], read[1])}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how well flags find wrong results.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with one folder a set")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="default: every folder with a split.json")
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 4], metavar="N")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="S")
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M", help="for training, reading included")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--test-scans", type=int, default=0, metavar="N", help="score on the first N only; 0: all")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
