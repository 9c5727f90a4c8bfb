"""Which scan next: four scans that `glmae suggest` names against four drawn at random, given the same first labels.

    python benchmarks/suggest.py --data DIR --sets headneck_ct --threads 1      # the small grid, under 20 CPU minutes
    python benchmarks/suggest.py --data DIR --seeds 0 1 2 3 4 --minutes 3 --candidates 0 --test-scans 0

A model is trained on the first labels; then one on these and the suggested scans, and one on these and random scans,
each for the same minutes, and both are scored on the test scans. Both choose among the same candidates, drawn from the
pool. Each row is written to benchmarks/results/suggest.json at once; what is there already is not run again. At the end
it says the mean difference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_set import DataSet, find_data_sets
from few_label_row import score
from machine import describe_machine, use
from ours import backbone_is_shipped, run
from results_file import ResultsFile
from task import Task

from glmae.devices import choose_device
from glmae.errors import GLMAEError
from glmae.events import recorded
from glmae.segmentation.suggestion import suggest

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "suggest.json"
KEY = ("set", "seed", "choice", "start", "added", "candidates", "method", "minutes", "device", "threads", "test_scans")
CHOICES = ("suggested", "random")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some failed, each named; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        sets = find_data_sets(options.data, options.sets)
        results = ResultsFile(options.out, KEY)
        device = choose_device(options.device)[0].type
        use(options.threads or torch.get_num_threads(), ())
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    failures = 0
    for data, seed, choice in planned(sets, options.seeds, options.start, options.added):
        test, among = data.test(seed, options.test_scans), candidates(data, seed, options.start, options.candidates)
        row = {"set": data.name, "seed": seed, "choice": choice, "start": options.start, "added": options.added}
        row |= {"candidates": len(among)}
        row |= {"method": "glmae" if backbone_is_shipped() else "glmae_scratch", "minutes": options.minutes}
        row |= {"device": device, "threads": torch.get_num_threads(), "test_scans": len(test)}
        if row in results:
            continue
        try:
            row |= _row(data, test, among, row)
        except GLMAEError as error:
            print(f"{data.name}, seed {seed}, {choice}: {error}", file=sys.stderr, flush=True)
            failures += 1
            continue
        results.add(row, describe_machine(device))
        print(f"{data.name}, seed {seed}, {choice} ({', '.join(row['scans'])}): Dice {row['dice']}", flush=True)
    print(summary(results.rows))
    return 1 if failures else 0


def planned(
    sets: Sequence[DataSet], seeds: Sequence[int], start: int, added: int
) -> Iterator[tuple[DataSet, int, str]]:
    """The rows in the order in which they are run; a set without a choice of scans to add is left out."""
    for seed in seeds:
        for data in sets:
            if data.labelled(seed, start) is not None and len(candidates(data, seed, start)) > added:
                yield from ((data, seed, choice) for choice in CHOICES)


def candidates(data: DataSet, seed: int, start: int, count: int = 0) -> list[str]:
    """Scans of the pool that could be labelled next: those whose label is known, but the first ones.

    Args:
        data: the set.
        seed: of the split, and of the drawing.
        start: number of first labels.
        count: so many of them, drawn at random; 0: all.
    """
    first = set(data.labelled(seed, start) or ())
    found = sorted(name for name in data.pool(seed) if name not in first and data.has_label(name))
    if not 0 < count < len(found):
        return found
    drawn = np.random.default_rng((seed, 0)).choice(found, count, replace=False)
    return sorted(str(name) for name in drawn)


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Mean Dice of both choices over the set and seeds for which there are both, and their mean difference."""
    pairs: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        pairs.setdefault(tuple(row[name] for name in KEY if name != "choice"), {})[row["choice"]] = row["dice"]
    both = {key: pair for key, pair in pairs.items() if len(pair) == len(CHOICES)}
    lines = []
    for name in sorted({key[0] for key in both}):
        found = [pair for key, pair in both.items() if key[0] == name]
        means = {choice: float(np.mean([pair[choice] for pair in found])) for choice in CHOICES}
        gain = means["suggested"] - means["random"]
        lines.append(
            f"{name}: suggested {means['suggested']:.3f}, random {means['random']:.3f}, "
            f"difference {gain:+.3f} over {len(found)} seeds"
        )
    return "\n".join(lines) or "no set has both choices yet"


def _row(data: DataSet, test: tuple[str, ...], others: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
    first = data.labelled(row["seed"], row["start"]) or ()
    with tempfile.TemporaryDirectory(prefix="suggest-", ignore_cleanup_errors=True) as folder:
        if row["choice"] == "suggested":
            run(_task(data, first, test[:1], Path(folder) / "first", row))
            chosen = _suggested(data, Path(folder) / "first" / "model", others, row["device"])[: row["added"]]
        else:
            drawn = np.random.default_rng(row["seed"]).choice(others, row["added"], replace=False)
            chosen = sorted(map(str, drawn))
        task = _task(data, (*first, *chosen), test, Path(folder) / "second", row)
        outcome = run(task)
        # Scored on the classes of the first labels: these are the same for both choices.
        scored = score(_task(data, first, test, Path(task.work), row))
    return {**scored, "scans": chosen, "seconds": round(outcome.seconds, 1), "steps": outcome.steps}


def _suggested(data: DataSet, model: Path, others: Sequence[str], device: str) -> list[str]:
    heard: list[dict[str, Any]] = []
    suggest(model=model, images=[data.image(name) for name in others], device=device, events=recorded(heard))
    return [event["case"] for event in heard if event["event"] == "suggestion"]


def _task(data: DataSet, labelled: Sequence[str], test: Sequence[str], work: Path, row: dict[str, Any]) -> Task:
    work.mkdir(parents=True, exist_ok=True)
    return Task(
        set_folder=str(data.folder),
        labels=len(labelled),
        seed=row["seed"],
        method=row["method"],
        minutes=row["minutes"],
        device=row["device"],
        threads=row["threads"],
        labelled=tuple(labelled),
        pool=tuple(labelled),
        test=tuple(test),
        work=str(work),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare suggested with random scans to label next.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with one folder a set")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="default: every folder with a split.json")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S")
    parser.add_argument("--start", type=int, default=1, metavar="N", help="labels of the first model")
    parser.add_argument("--added", type=int, default=4, metavar="N", help="scans that are labelled next")
    parser.add_argument("--minutes", type=float, default=1.5, metavar="M", help="for each training")
    parser.add_argument(
        "--candidates", type=int, default=12, metavar="N", help="choose among N scans of the pool; 0: among all"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: as many as torch takes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--test-scans", type=int, default=10, metavar="N", help="score on the first N only; 0: on all")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
