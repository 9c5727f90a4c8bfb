"""Do the flags of a batch find the cases with a Dice under 0.6? Precision and recall on labeled test scans.

    python benchmarks/flags.py --data DIR --kept KEPT
    python benchmarks/flags.py --data DIR [--sets ...] [--labels 1 4] [--seeds 0 1] [--minutes 1]

The first takes what `few_label.py --keep KEPT` left of our rows. The second trains a model on each set with the
defaults that a user gets, and segments the test scans. The flags in the reports are compared with the scores. Rows go
to benchmarks/results/flags.json; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from data_set import DataSet, find_data_sets
from few_label import planned
from flag_scores import BAD, flag_scores
from machine import describe_machine
from ours import backbone_is_shipped, run
from results_file import ResultsFile
from task import Task

from glmae.devices import choose_device
from glmae.errors import GLMAEError, RequestError
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
        if options.kept and not any(options.kept.glob("*/row.json")):
            raise RequestError(f"{options.kept} holds nothing that few_label.py --keep left; name its folder")
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    made = _kept(options.kept, sets) if options.kept else _trained(sets, device, options)
    failures = 0
    for row, machine, score in made:
        if row in results:
            continue
        title = f"{row['set']}, {row['labels']} labels, seed {row['seed']}, {row['method']}"
        try:
            content = score()
        except GLMAEError as error:
            failures += 1
            print(f"{title}: {error}", file=sys.stderr, flush=True)
            continue
        results.add(row | {"bad_below": BAD} | content, machine)
        found = content["classes"]
        print(
            f"{title}: {found['bad']} of {found['count']} structures under {BAD}, precision {found['precision']}, "
            f"recall {found['recall']}",
            flush=True,
        )
    print(_all_together(results.rows))
    return 1 if failures else 0


Made = Iterator[tuple[dict[str, Any], dict[str, Any], Callable[[], dict[str, Any]]]]


def _kept(folder: Path, sets: Sequence[DataSet]) -> Made:
    """What `few_label.py --keep` left: the row, its machine, and how to score it."""
    known = {data.name: data for data in sets}
    for path in sorted(folder.glob("*/row.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["row"]["set"] in known and (path.parent / "predictions" / "report").is_dir():
            row = {name: content["row"][name] for name in KEY}
            labels = known[row["set"]].labels
            yield row, content["machine"], partial(_score, path.parent / "predictions", labels)


def _trained(sets: Sequence[DataSet], device: str, options: argparse.Namespace) -> Made:
    """The rows that are asked for; each is trained when it is scored."""
    method = "glmae" if backbone_is_shipped() else "glmae_scratch"
    for data, labels, seed, _ in planned(sets, options.labels, options.seeds, [method]):
        test = data.test(seed, options.test_scans)
        row = {"set": data.name, "labels": labels, "seed": seed, "method": method, "minutes": options.minutes}
        row |= {"device": device, "threads": torch.get_num_threads(), "test_scans": len(test)}
        yield row, describe_machine(device), partial(_train_and_score, data, row, test)


def _train_and_score(data: DataSet, row: Mapping[str, Any], test: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="flags-", ignore_cleanup_errors=True) as work:
        task = Task(
            set_folder=str(data.folder),
            labeled=data.labeled(row["seed"], row["labels"]) or (),
            pool=tuple(name for name in data.pool(row["seed"]) if name not in test),
            test=test,
            work=work,
            **{name: row[name] for name in ("labels", "seed", "method", "minutes", "device", "threads")},
        )
        run(task)
        return _score(task.predictions, data.labels)


def _score(predictions: Path, labels: Path) -> dict[str, Any]:
    """Compare the flags in the report of a batch with its scores."""
    with tempfile.TemporaryDirectory(prefix="flags-", ignore_cleanup_errors=True) as work:
        scores = Path(work) / "scores.json"
        evaluate(predictions=predictions, labels=labels, out=scores)
        report = predictions / "report" / "report.json"
        read = [json.loads(path.read_text(encoding="utf-8")) for path in (report, scores)]
    return {"dice": read[1]["mean_dice"], **flag_scores(read[0], read[1])}


def _all_together(rows: Sequence[Mapping[str, Any]]) -> str:
    """Precision and recall over all rows, of structures and of scans."""
    parts = []
    for name, what in (("classes", "structures"), ("cases", "scans")):
        count, bad, flagged, hits = (sum(row[name][key] for row in rows) for key in ("count", "bad", "flagged", "hits"))
        precision = f"{hits / flagged:.2f}" if flagged else "undefined"
        recall = f"{hits / bad:.2f}" if bad else "undefined"
        parts.append(f"{what}: {bad} of {count} under {BAD}, precision {precision}, recall {recall}")
    return f"all {len(rows)} rows: " + "; ".join(parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how well flags find wrong results.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with one folder a set")
    parser.add_argument("--kept", type=Path, metavar="DIR", help="nothing is trained: what few_label.py --keep left")
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
