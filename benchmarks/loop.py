"""A simulated clinician: she labels one scan, gets a proposal for the next, corrects it to the truth, and so on.

    python benchmarks/loop.py --data DIR [--sets ...] [--seeds 0] [--methods glmae_live dynunet_3] [--threads 1]
    python benchmarks/loop.py --table                            # the rows as they stand in docs/benchmarks.md

`glmae_live` asks `glmae live`, which computes the features of the next scan while she corrects (`ahead_seconds`: a
correction that takes less has to wait for the rest of it); `METHOD_N` trains a method of few_label.py for N minutes on
what was accepted so far. The scans are those of the set's split, in its order. A row is a proposal before it is
corrected: `accepted` scans so far, `dice` (mean over the classes), `to_correct` (voxels that are wrong, as a share of
the structures'), `wait_seconds` from accepting to the proposal, of which `train_seconds` until the model was ready.
Rows go to benchmarks/results/loop.json at once; a loop whose rows are there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from data_set import DataSet, find_data_sets
from few_label_row import score
from machine import describe_machine, use
from methods import check_method
from results_file import ResultsFile, markdown
from task import Task

from glmae.errors import GLMAEError, RequestError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "loop.json"
KEY = ("set", "seed", "method", "accepted", "device", "threads")
SCANS = 8
LIVE = "glmae_live"

# Makes the proposal of a task, and says what it took.
Proposer = Callable[[Task], dict[str, float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is there; 1: some loops failed, each named; 2: the request is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if options.table:
            print(table(ResultsFile(options.out, KEY).rows))
            return 0
        if options.data is None:
            raise RequestError("name the folder of the sets with --data")
        for method in options.methods:
            if method != LIVE:
                check_method(method.rpartition("_")[0])
        sets = find_data_sets(options.data, options.sets)
        results = ResultsFile(options.out, KEY)
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    warnings.filterwarnings("ignore")  # libraries talking to developers
    use(options.threads, ())
    failed = 0
    for seed in options.seeds:
        for data in sets:
            for method in options.methods:
                row = {"set": data.name, "seed": seed, "method": method, "device": "cpu", "threads": options.threads}
                names = scans_of(data, seed)
                if len(names) < 2 or row | {"accepted": len(names) - 1} in results:
                    continue
                try:
                    for found in loop(data, names, row):
                        if row | found in results:  # of a loop that was broken off
                            continue
                        results.add(row | found, describe_machine("cpu"))
                        print(data.name, seed, method, json.dumps(found), flush=True)
                except GLMAEError as error:
                    print(f"{row}: {error}", file=sys.stderr)
                    failed += 1
    return 1 if failed else 0


def scans_of(data: DataSet, seed: int) -> tuple[str, ...]:
    """The scans in the order in which she labels them: those of the split's largest few-label run, then of its pool."""
    runs = sorted(data.seeds.get(f"seed{seed}", {}).get("few_label", {}), key=int)
    if not runs:
        return ()
    named = [name for labels in runs for name in data.labeled(seed, int(labels)) or ()]
    named += [name for name in data.pool(seed) if data.has_label(name)]
    return tuple(dict.fromkeys(named))[:SCANS]


def loop(data: DataSet, names: Sequence[str], row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one loop, one for each proposal.

    Raises:
        GLMAEError: a proposal could not be made.
    """
    with tempfile.TemporaryDirectory(prefix="loop-") as folder, _proposer(data, names, row, Path(folder)) as propose:
        for accepted in range(1, len(names)):
            work = Path(folder) / f"{accepted}"
            (work / "predictions").mkdir(parents=True)
            method, _, minutes = row["method"].rpartition("_")
            task = Task(
                set_folder=str(data.folder),
                labels=accepted,
                seed=row["seed"],
                method=method,
                minutes=0.0 if row["method"] == LIVE else float(minutes),
                device=row["device"],
                threads=row["threads"],
                labeled=tuple(names[:accepted]),
                pool=tuple(names),
                test=(names[accepted],),
                work=str(work),
            )
            took = propose(task)
            wrong = _to_correct(task.predictions / f"{task.test[0]}.nii.gz", data.labels / f"{task.test[0]}.nii.gz")
            yield {"accepted": accepted, "dice": score(task)["dice"], "to_correct": wrong, **took}


@contextmanager
def _proposer(data: DataSet, names: Sequence[str], row: dict[str, Any], folder: Path) -> Iterator[Proposer]:
    if row["method"] != LIVE:
        yield _trained
        return
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for name in names:
        image = data.image(name)
        (shutil.copytree if image.is_dir() else shutil.copy)(image, folder / "images" / image.name)
    if (data.labels / "classes.json").exists():
        shutil.copy(data.labels / "classes.json", folder / "labels")
    command = [sys.executable, "-m", "glmae", "live", "--images", folder / "images", "--labels", folder / "labels"]
    process = subprocess.Popen(
        [*map(str, command), "--device", row["device"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": str(row["threads"]), "PYTHONPATH": str(HERE.parent / "GLMAESegmentation")},
        text=True,
    )
    try:
        yield partial(_live, process, folder)
        process.communicate()  # at the end of its input it removes what it kept
    finally:
        process.kill()
        process.wait()


def _live(process: subprocess.Popen[str], folder: Path, task: Task) -> dict[str, float]:
    """She accepts the last of the labeled scans."""
    (following,) = task.test
    took = {}
    if task.labels > 1:
        began = time.monotonic()
        _ask(process, request="ahead", cases=[following])
        took["ahead_seconds"] = round(time.monotonic() - began, 2)
    label = f"{task.labeled[-1]}.nii.gz"
    began = time.monotonic()
    shutil.copy(task.data.labels / label, folder / "labels" / label)
    _ask(process, request="fit", cases=task.labeled)
    ready = time.monotonic()
    _ask(process, request="segment", case=following, out=str(task.predictions / f"{following}.nii.gz"))
    seconds = {"wait_seconds": time.monotonic() - began, "train_seconds": ready - began}
    return {name: round(value, 2) for name, value in seconds.items()} | took


def _ask(process: subprocess.Popen[str], **request: Any) -> None:
    """Ask `glmae live`, and wait for its answer.

    Raises:
        GLMAEError: it refused.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] in ("failed", "request_failed"):
            raise GLMAEError(event["message"])
        if event["event"] == "answered":
            return
    raise GLMAEError("glmae live ended")


def _trained(task: Task) -> dict[str, float]:
    """A method of few_label.py, in a process of its own, from the accepted scans."""
    asked, answer = Path(task.work) / "task.json", Path(task.work) / "row.json"
    task.write(asked)
    began = time.monotonic()
    command = [sys.executable, str(HERE / "few_label_row.py"), str(asked), str(answer)]
    child = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(task.threads)}, check=False)
    if child.returncode:
        raise GLMAEError(f"{task.method} failed on {task.labels} scans (exit status {child.returncode})")
    row = json.loads(answer.read_text(encoding="utf-8"))["row"]
    return {"wait_seconds": round(time.monotonic() - began, 2), "train_seconds": row["seconds"]}


def _to_correct(proposal: Path, truth: Path) -> float:
    found, wanted = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (proposal, truth))
    return round(float(np.count_nonzero(found != wanted) / max(1, np.count_nonzero(wanted))), 4)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a loop in Markdown: Dice and waits after one, two, ... accepted scans."""
    columns = ("set", "seed", "method", "threads")
    loops: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["accepted"]):
        loops.setdefault(tuple(row[name] for name in columns), []).append(row)
    shown = {"dice": "{:.2f}", "wait_seconds": "{:.0f}"}
    lines = [
        [*map(str, key), *(", ".join(form.format(row[name]) for row in found) for name, form in shown.items())]
        for key, found in loops.items()
    ]
    return markdown([*columns, *shown], lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--table", action="store_true", help="print the rows that are there, and run nothing")
    parser.add_argument("--sets", nargs="+", metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", default=[LIVE])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
