"""Measure, prepare and pre-train on folders of scans; the peak of memory after each: FOLDER COUNT ..."""

import json
import os
import resource
import sys
from pathlib import Path

import torch
from sample_scans import small_config

from glmae.pretraining.pretrain import pretrain
from glmae.scans.cases import find_images
from glmae.scans.classes import ClassTable
from glmae.scans.measurement import measure
from glmae.scans.preparation import plan_preparation
from glmae.scans.store import ScanStore


def peak_after(images: Path, out: Path, count: int) -> float:
    """MB."""
    cases = find_images([images])
    store = ScanStore.prepare(out / "store", cases, plan_preparation(measure(cases, ClassTable(())), 10**9))
    assert len(store) == count
    pretrain(small_config(), store, out / "run", steps=20, device="cpu")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024) / 1e3


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.cpu_count = lambda: 2  # more threads work on more scans at once, wherever the test runs
    folder, counts = Path(sys.argv[1]), map(int, sys.argv[2:])
    print(json.dumps([peak_after(folder / f"{count} scans", folder / f"out {count}", count) for count in counts]))
