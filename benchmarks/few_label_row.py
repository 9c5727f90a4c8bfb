"""One row of few_label.json, in a process of its own: `few_label_row.py TASK.json ROW.json`."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine, peak_device_mb, peak_rss_mb, use
from methods import method
from task import Outcome, Task

from glmae.errors import GLMAEError
from glmae.files import write_json
from glmae.scans.cases import find_cases
from glmae.segmentation.evaluation import evaluate


def main(arguments: list[str]) -> int:
    warnings.filterwarnings("ignore")  # libraries talking to developers
    task, out = Task.read(Path(arguments[0])), Path(arguments[1])
    use(task.threads, task.cores)
    try:
        outcome = method(task.method)(task)
        device_mb = outcome.peak_device_mb or peak_device_mb(task.device)
        memory = {"peak_mb": peak_rss_mb(), "peak_device_mb": device_mb}
        row = {**_identity(task), **score(task), **_measured(outcome), **memory}
    except GLMAEError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    write_json(out, {"row": row, "machine": describe_machine(task.device)})
    return 0


def score(task: Task) -> dict[str, Any]:
    """Score the predictions of a task by the functions that `glmae evaluate` uses.

    A class that none of the labeled scans holds cannot be learned by any method and is left out. A mean is over the
    cases, of the mean over the classes in each. A class that was not found at all has Dice 0 and no Hausdorff distance;
    `hd95_missing` counts these.
    """
    report = Path(task.work) / "report.json"
    failed = evaluate(predictions=task.predictions, labels=task.data.labels, out=report)
    if failed:
        raise GLMAEError(f"{', '.join(failed)} could not be scored")
    learned = _learned_classes(task)
    rows = [entry for entry in json.loads(report.read_text(encoding="utf-8"))["cases"] if entry["class"] in learned]
    absent = [name for name in task.test if not (task.predictions / f"{name}.nii.gz").exists()]
    if absent:
        raise GLMAEError(f"{task.method} left no segmentation of {', '.join(absent)}")
    per_case = [_mean(entry["dice"] for entry in rows if entry["case"] == name) for name in task.test]
    distances = [_mean(entry["hd95_mm"] for entry in rows if entry["case"] == name) for name in task.test]
    return {
        "dice": _mean(per_case),
        "cases": list(task.test),
        "per_case": per_case,
        "per_class": {name: _mean(entry["dice"] for entry in rows if entry["class"] == name) for name in learned},
        "hd95_mm": _mean(distances),
        "hd95_missing": sum(entry["dice"] is not None and entry["hd95_mm"] is None for entry in rows),
    }


def _learned_classes(task: Task) -> list[str]:
    data = task.data
    _, table = find_cases(data.images, data.labels, task.labeled)
    return list(table.names)


def _identity(task: Task) -> dict[str, Any]:
    return {
        "set": task.data.name,
        "labels": task.labels,
        "seed": task.seed,
        "method": task.method,
        "minutes": task.minutes,
        "device": task.device,
        "threads": task.threads,
        "test_scans": len(task.test),
        "settings": dict(task.settings),
    }


def _measured(outcome: Outcome) -> dict[str, Any]:
    return {
        "seconds": round(outcome.seconds, 1),
        "segment_seconds": round(outcome.segment_seconds, 1),
        "steps": outcome.steps,
    }


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 5) if known else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
