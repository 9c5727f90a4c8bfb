"""Few labels: ours against what a user would take instead, at equal labels, scans, minutes and machine.

    python benchmarks/few_label.py --data DIR [--sets ...] [--labels 1 4] [--seeds 0 1] [--methods ...] [--minutes 3]
                                   [--threads 1] [--cores 0 1]
    python benchmarks/few_label.py --table           # the rows as they stand in docs/benchmarks.md

DIR holds one folder a set (see data_set.py). Each row runs in a process of its own and is written to
benchmarks/results/few_label.json at once; what is there already is not run again. With --threads 1 --cores 0 1 two rows
run at a time, each tied to one core. Rows of different threads are not compared with each other.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from data_set import DataSet, find_data_sets
from methods import METHODS, applies, check_method
from nnunet_environment import interpreter
from results_file import ResultsFile, markdown, mean_of_sets, seeds_and_mean
from task import Task

from glmae.errors import GLMAEError, RequestError
from glmae.files import write_json

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "few_label.json"
KEY = ("set", "labels", "seed", "method", "minutes", "device", "threads", "test_scans", "settings")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some failed, each named; 2: the request is wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data is None and not options.table:
        parser.error("--data is missing")
    try:
        if options.table:
            print(table(ResultsFile(options.out, KEY).rows))
            return 0
        if options.tuning and options.out == RESULTS:
            raise RequestError("rows of --tuning are no results; name another file with --out")
        for name in options.methods:
            check_method(name)
        sets = find_data_sets(options.data, options.sets)
        results = ResultsFile(options.out, KEY)
        device = _device(options.device)
        threads = options.threads or _threads()
        places = _places(options.cores, threads)
        settings = dict(map(_setting, options.settings))
        methods = _possible(options.methods)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    jobs = []
    for data, labels, seed, method in planned(sets, options.labels, options.seeds, methods):
        test = validation(data, seed, labels) if options.tuning else data.test(seed)
        test = test[: options.test_scans or None]
        row = {"set": data.name, "labels": labels, "seed": seed, "method": method, "minutes": options.minutes}
        row |= {"device": device, "threads": threads, "test_scans": len(test), "settings": settings}
        if test:
            jobs.append((data, test, row))
    return 0 if _run_all(jobs, places, results, options.keep) else 1


def planned(
    sets: Sequence[DataSet], labels: Sequence[int], seeds: Sequence[int], methods: Sequence[str]
) -> Iterator[tuple[DataSet, int, int, str]]:
    """The rows in the order in which they are run: wherever it ends, sets and methods have been treated alike."""
    for seed in seeds:
        for count in labels:
            for data in sets:
                if data.labeled(seed, count) is not None:
                    yield from ((data, count, seed, method) for method in methods if applies(method, count))


def validation(data: DataSet, seed: int, labels: int) -> tuple[str, ...]:
    """For tuning: the labeled scans of the pool that the run does not train on, never a test scan."""
    trained = set(data.labeled(seed, labels) or ())
    return tuple(name for name in data.pool(seed) if name not in trained and data.has_label(name))


Job = tuple[DataSet, tuple[str, ...], dict[str, Any]]
Cores = tuple[int, ...]


def _run_all(jobs: Sequence[Job], places: Sequence[Cores], results: ResultsFile, keep: Path | None = None) -> bool:
    """Run what is not there yet, in order, one row at a time in each place; whether all succeeded."""
    free: SimpleQueue[Cores] = SimpleQueue()
    for place in places:
        free.put(place)

    def run(job: Job) -> bool:
        place = free.get()
        try:
            return job[2] in results or _run(*job, place, results, keep)
        finally:
            free.put(place)

    pool = ThreadPoolExecutor(len(places))
    try:
        return all(list(pool.map(run, jobs)))
    finally:
        pool.shutdown(cancel_futures=True)


def _run(
    data: DataSet,
    test: tuple[str, ...],
    row: dict[str, Any],
    cores: Cores,
    results: ResultsFile,
    keep: Path | None = None,
) -> bool:
    """One row in a child process, so that its memory is its own."""
    title = f"{row['set']}, {row['labels']} labels, seed {row['seed']}, {row['method']}"
    labeled = data.labeled(row["seed"], row["labels"]) or ()
    pool = tuple(name for name in data.pool(row["seed"]) if name not in test)
    with tempfile.TemporaryDirectory(prefix="few-label-", ignore_cleanup_errors=True) as folder:
        work = Path(folder) / "work"
        work.mkdir()
        task = Task(
            set_folder=str(data.folder),
            labeled=labeled,
            pool=pool,
            test=test,
            work=str(work),
            cores=cores,
            **{name: row[name] for name in ("labels", "seed", "method", "minutes", "device", "threads", "settings")},
        )
        asked, answer = Path(folder) / "task.json", Path(folder) / "row.json"
        task.write(asked)
        command = [sys.executable, str(HERE / "few_label_row.py"), str(asked), str(answer)]
        child = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(row["threads"])}, check=False)
        if child.returncode or not answer.exists():
            print(f"{title}: failed (exit status {child.returncode})", file=sys.stderr, flush=True)
            return False
        content = json.loads(answer.read_text(encoding="utf-8"))
        if keep is not None:
            _keep(keep, work, content)
    results.add(content["row"], content["machine"])
    print(f"{title}: Dice {content['row']['dice']}, {content['row']['seconds']} s", flush=True)
    return True


def _keep(folder: Path, work: Path, content: dict[str, Any]) -> None:
    """Keep the model, where there is one, the segmentations, and the row itself, in a folder of their own."""
    row = content["row"]
    words = [row["set"], f"{row['labels']} labels", f"seed {row['seed']}", row["method"], f"{row['minutes']:g} min"]
    target = folder / ", ".join(words + [f"{name} {value}" for name, value in row["settings"].items()])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("model", "predictions"):
        if (work / name).is_dir():
            shutil.copytree(work / name, target / name)
    write_json(target / "row.json", content)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown the Dice of each seed, then mean and standard deviation, and below them the means over the sets.

    Of the instant model the seconds stand beside it.
    """
    rows = [row for row in rows if not row["settings"]]  # others belong to tuning
    methods = [name for name in METHODS if any(row["method"] == name for row in rows)]
    cells: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: (row["labels"], row["minutes"], row["set"], row["seed"])):
        for name in (row["set"], "mean"):
            cell = cells.setdefault((row["labels"], row["minutes"], name == "mean", name), {})
            cell.setdefault(row["method"], []).append(row)
    lines = [
        [name, str(labels), f"{minutes:g}", *(_cell(found.get(method, []), over_sets) for method in methods)]
        for (labels, minutes, over_sets, name), found in sorted(cells.items())
    ]
    return markdown(["set", "labels", "minutes", *methods], lines)


def _cell(rows: Sequence[dict[str, Any]], over_sets: bool) -> str:
    if over_sets:
        return mean_of_sets(rows)
    text = seeds_and_mean([row["dice"] for row in rows])
    if rows and rows[0]["method"] == "glmae_instant":
        text += f" ({statistics.mean(row['seconds'] for row in rows):.0f} s)"
    return text


def _possible(methods: Sequence[str]) -> list[str]:
    """Without what cannot be run here, so that the others can be."""
    missing = {}
    if "nnunet" in methods and not interpreter().exists():
        missing["nnunet"] = "nnU-Net is not installed (python benchmarks/nnunet_environment.py)"
    pretrained = [name for name in methods if name in ("glmae", "glmae_instant")]
    if pretrained:
        from ours import backbone_is_shipped  # needs torch, which takes seconds

        # A run from scratch would go by the wrong name.
        if not backbone_is_shipped():
            missing |= dict.fromkeys(pretrained, "no pre-trained backbone is shipped")
    if set(missing) == set(methods):
        raise RequestError("; ".join(f"{name} cannot be run: {reason}" for name, reason in missing.items()))
    for name, reason in missing.items():
        print(f"{name}: left out, because {reason}", file=sys.stderr)
    return [name for name in methods if name not in missing]


def _device(request: str) -> str:
    if request != "auto":
        return request
    from glmae.devices import choose_device  # needs torch, which takes seconds

    return choose_device(request)[0].type


def _threads() -> int:
    import torch  # takes seconds

    return int(torch.get_num_threads())


def _places(cores: Sequence[int] | None, threads: int) -> list[Cores]:
    """The cores of each row that runs at a time; without --cores one row, on any."""
    if cores is None:
        return [()]
    if not hasattr(os, "sched_setaffinity") or not set(cores) <= os.sched_getaffinity(0):  # Linux only
        raise RequestError(f"rows cannot be tied to the cores {cores} here; leave --cores out")
    if len(cores) % threads:
        raise RequestError(f"{len(cores)} cores cannot be shared out to rows of {threads} threads; change --threads")
    return [tuple(cores[n : n + threads]) for n in range(0, len(cores), threads)]


def _setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare segmentation methods given a few labeled scans.")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with one folder a set")
    parser.add_argument("--table", action="store_true", help="print the rows that are there, and run nothing")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="default: every folder with a split.json")
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 4], metavar="N")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], metavar="S")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--minutes", type=float, default=3.0, metavar="M", help="for training, reading included")
    parser.add_argument("--threads", type=int, metavar="N", help="of each row; default: as many as torch takes")
    parser.add_argument(
        "--cores", nargs="+", type=int, metavar="C", help="run as many rows at a time as fit, each on its own of these"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep model and segmentations of each row, for flags.py"
    )
    parser.add_argument("--test-scans", type=int, default=0, metavar="N", help="score on the first N only; 0: all")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--settings", nargs="+", default=[], metavar="NAME=VALUE", help="fields of the methods, for tuning"
    )
    parser.add_argument(
        "--tuning", action="store_true", help="score on labeled scans of the pool instead of the test; needs --out"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
